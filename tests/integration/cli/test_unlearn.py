"""``palimpsest unlearn`` against the real stack: a request from its preview to its verified certificate."""

from pathlib import Path

import pytest

from tests.integration.unlearning import data

OPTIONS = (
    "--model",
    "unlearn-cli",
    "--algorithm",
    "ga_gdr",
    "--steps",
    2,
    "--batch",
    4,
    "--learning-rate",
    1e-4,
)


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, ...]:
    named = {"forget": data.FORGET, "retain": data.RETAIN, "holdout": data.HOLDOUT}
    options: list[str] = []
    for name, content in named.items():
        (tmp_path / f"{name}.jsonl").write_bytes(content)
        options += [f"--{name}", str(tmp_path / f"{name}.jsonl")]
    return tuple(options)


def test_a_request_from_its_preview_to_its_certificate(palimpsest, tiny_model, files, tmp_path):
    assert palimpsest("models", "register", "unlearn-cli", tiny_model).code == 0
    plan = (*OPTIONS, *files, "--new-model", "unlearn-cli-clean", "--set", "alpha=2")
    preview = palimpsest("unlearn", "preview", *plan, "--json").json
    assert preview["forget"]["documents"] == 6
    assert preview["parameters"]["alpha"] == "2.0"
    assert preview["attacks"] == ["int8/32", "int4/32", "relearn/retain"]
    chosen = ("--attack", "int4/32", "--attack", "prefix/0.5", "--attack-steps", 3)
    shown = palimpsest("unlearn", "preview", *plan, *chosen).out
    assert "retain" in shown
    assert "int4/32, prefix/0.5" in shown

    held = palimpsest("unlearn", "submit", *plan, *chosen, "--id", "cli", "--hold", "--json")
    assert held.code == 0, held.err
    assert palimpsest("unlearn", "get", "cli", "--json").json["state"] == "REMOVAL_STATE_HELD"
    assert palimpsest("unlearn", "hold", "cli").code == 0
    assert palimpsest("unlearn", "approve", "cli").code == 0
    watched = palimpsest("unlearn", "watch", "cli")
    assert watched.code == 0, watched.err
    assert "succeeded" in watched.out
    listed = palimpsest("unlearn", "list", "--json").json
    assert [each["name"] for each in listed if each["plan"]["model"] == "unlearn-cli"] == [
        "removalRequests/cli"
    ]
    report = palimpsest("unlearn", "report", "cli")
    assert "verbmem" in report.out
    assert "int4/32" in report.out
    assert "float32, int4/32. Nothing is said of any other." in " ".join(report.err.split())

    proof = tmp_path / "proof"
    saved = palimpsest("unlearn", "certificate", "cli", "--folder", proof)
    assert saved.code == 0
    command = saved.out.split()
    assert command[:2] == ["palimpsest", "unlearn"]
    assert palimpsest(*command[1:]).code == 0
    assert palimpsest("unlearn", "rollback", "cli").code == 0
    palimpsest("unlearn", "certificate", "cli", "--folder", proof)
    assert palimpsest(*command[1:]).code == 1  # revoked


def test_a_plan_that_is_refused_says_why(palimpsest, files):
    refused = palimpsest("unlearn", "submit", *OPTIONS, *files, "--new-model", "x", "--set", "alpha")
    assert refused.code == 2
    refused = palimpsest("unlearn", "submit", *OPTIONS, *files, "--new-model", "x", "--set", "gamma=minus")
    assert refused.code != 0
    assert "gamma" in refused.err
    assert not any(word in refused.err for word in data.SECRETS)
