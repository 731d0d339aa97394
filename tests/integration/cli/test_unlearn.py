"""``palimpsest unlearn`` against the real stack: a request from its preview to its verified certificate."""

from pathlib import Path

import pytest

from palimpsest.cli.output.exits import Exit
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
    plan = (*OPTIONS, *files, "--new-model", "unlearn-cli-clean", "--set", "alpha=2", "--coalesce")
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
    assert held.json["name"] == "removalRequests/cli"
    assert palimpsest("unlearn", "get", "cli", "--json").json["state"] == "REMOVAL_STATE_HELD"
    assert palimpsest("unlearn", "hold", "cli").code == 0
    early = palimpsest("unlearn", "report", "cli")
    assert early.code == Exit.REFUSED
    assert "palimpsest unlearn approve cli" in early.err
    assert palimpsest("unlearn", "approve", "cli").code == 0
    watched = palimpsest("unlearn", "watch", "cli")
    assert watched.code == 0, watched.err
    assert "succeeded" in watched.out
    # Without a terminal, what it does is told in lines.
    assert "removalRequests/cli: " in watched.err
    listed = palimpsest("unlearn", "list", "--json").json
    assert [each["name"] for each in listed if each["plan"]["model"] == "unlearn-cli"] == [
        "removalRequests/cli"
    ]
    page = tmp_path / "report.html"
    report = palimpsest("unlearn", "report", "cli", "--html", page)
    assert "verbmem" in report.out
    assert "int4/32" in report.out
    assert "float32, int4/32. Nothing is said of any other." in " ".join(report.err.split())
    assert "target" in report.out
    assert f"Wrote {page}." in report.err
    # Trained by steps, whose losses the page draws.
    assert 'id="loss-t"' in page.read_text(encoding="utf-8")
    found = palimpsest("unlearn", "report", "cli", "--json").json
    assert found["certificate"] in page.read_text(encoding="utf-8")
    assert not any(word in page.read_text(encoding="utf-8") for word in data.SECRETS)

    proof = tmp_path / "proof"
    saved = palimpsest("unlearn", "certificate", "cli", "--folder", proof)
    assert saved.code == 0
    command = saved.out.split()
    assert command[:2] == ["palimpsest", "unlearn"]
    assert palimpsest(*command[1:]).code == 0
    assert palimpsest("unlearn", "rollback", "cli").code == 0
    palimpsest("unlearn", "certificate", "cli", "--folder", proof)
    assert palimpsest(*command[1:]).code == 1  # revoked


def test_a_request_whose_id_the_server_makes_says_how_to_come_back_to_it(palimpsest, tiny_model, files):
    assert palimpsest("models", "register", "unlearn-cli-named", tiny_model).code == 0
    options = ("unlearn-cli-named" if word == "unlearn-cli" else word for word in OPTIONS)
    submitted = palimpsest(
        "unlearn", "submit", *options, *files, "--new-model", "unlearn-cli-other", "--hold"
    )
    assert submitted.code == 0, submitted.err
    name = submitted.out.split()[1]
    assert name.startswith("removalRequests/")
    assert f"palimpsest unlearn approve {name.removeprefix('removalRequests/')}" in submitted.err
    job = palimpsest("unlearn", "get", name, "--json").json["operation"]
    assert palimpsest("jobs", "cancel", job).code == 0


def test_a_plan_that_is_refused_says_why(palimpsest, files):
    refused = palimpsest("unlearn", "submit", *OPTIONS, *files, "--new-model", "x", "--set", "alpha")
    assert refused.code == 2
    refused = palimpsest("unlearn", "submit", *OPTIONS, *files, "--new-model", "x", "--set", "gamma=minus")
    assert refused.code != 0
    assert "gamma" in refused.err
    assert not any(word in refused.err for word in data.SECRETS)
