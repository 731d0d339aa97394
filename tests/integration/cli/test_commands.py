"""Every command against a real server: what it prints, as text and as JSON, and what it ends with."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys

import pytest

from palimpsest import Client
from palimpsest.cli.output.exits import Exit

NOBODY = "sha256:" + "0" * 64


def test_health(palimpsest, stack):
    assert palimpsest("health").out.startswith(f"{stack.target} serves")
    assert palimpsest("health", "--json").json["serving"] is True


def test_models(palimpsest, tiny_model, tmp_path):
    registered = palimpsest("models", "register", "cli-one", tiny_model, "--label", "kind=test", "--json")
    assert registered.code == 0, registered.err
    assert registered.json["model_id"] == "cli-one"
    assert registered.json["labels"] == {"kind": "test"}
    assert "cli-one" in {m["model_id"] for m in palimpsest("models", "list", "--json").json}
    assert "cli-one" in palimpsest("models", "list").out
    assert "LlamaForCausalLM" in palimpsest("models", "show", "cli-one").out
    child = palimpsest(
        "models",
        "register",
        "cli-child",
        tiny_model,
        "--parent",
        "cli-one",
        "--relation",
        "fine_tuned",
        "--json",
    )
    assert child.code == 0, child.err
    lineage = palimpsest("models", "lineage", "cli-child", "--json").json
    assert [m["model_id"] for m in lineage["ancestors"]] == ["cli-one"]
    assert palimpsest("models", "check-pair", "cli-one", "cli-child", "--json").json["compatible"] is True
    assert palimpsest("models", "delete", "cli-one").code == Exit.REFUSED
    assert palimpsest("models", "delete", "cli-child").code == 0
    assert palimpsest("models", "delete", "cli-one", "--json").json == {"deleted": "cli-one"}
    gone = palimpsest("models", "show", "cli-one")
    assert gone.code == Exit.NOT_FOUND
    assert "MODEL_NOT_FOUND" in gone.err
    assert gone.out == ""


def test_a_failed_registration_is_told(palimpsest, tiny_model):
    failed = palimpsest("models", "register", "cli-none", tiny_model.parent / "none")
    assert failed.code == Exit.NOT_FOUND
    assert "MODEL_SOURCE_NOT_FOUND" in failed.err
    assert palimpsest("models", "register", "cli-none", "x", "--label", "no-equals").code == Exit.USAGE
    invalid = palimpsest("models", "register", "NOT AN ID", "sample", "--json")
    assert invalid.code == Exit.USAGE
    assert json.loads(invalid.err)["error"]["violations"][0]["field"] == "model_id"


def test_artifacts(palimpsest, tmp_path):
    data = os.urandom(100_000)
    source, copy = tmp_path / "in", tmp_path / "out"
    source.write_bytes(data)
    digest = palimpsest("artifacts", "put", source, "--media-type", "application/x-test").out.strip()
    assert digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert palimpsest("artifacts", "get", digest, "--out", copy).code == 0
    assert copy.read_bytes() == data
    assert digest in palimpsest("artifacts", "list").out
    assert digest in {a["digest"] for a in palimpsest("artifacts", "list", "--json").json}
    shown = palimpsest("artifacts", "show", digest, "--json").json
    assert (shown["size_bytes"], shown["media_type"]) == (100_000, "application/x-test")
    assert palimpsest("artifacts", "gc", "--dry-run", "--json").json["kept"] >= 0
    assert palimpsest("artifacts", "delete", digest).code == 0
    assert palimpsest("artifacts", "get", digest).code == Exit.NOT_FOUND
    assert palimpsest("artifacts", "put", tmp_path / "none").code == Exit.NOT_FOUND
    assert palimpsest("artifacts", "show", "nonsense").code == Exit.USAGE


def test_generate(palimpsest, cli_model, stack):
    with Client(stack.target, token=stack.token) as client:
        text = client.decoding.text(model=cli_model, prompt="the quick", max_tokens=8)
        chat = client.decoding.text(model=cli_model, chat=[{"role": "user", "content": "hi"}], max_tokens=8)
    ask = ("--model", cli_model, "--max-tokens", 8)
    assert palimpsest("generate", "the quick", *ask).out == text + "\n"
    assert palimpsest("generate", *ask, input="the quick").out == text + "\n"
    assert palimpsest("generate", "hi", "--chat", *ask).out == chat + "\n"
    events = [json.loads(x) for x in palimpsest("generate", "the quick", *ask, "--json").out.splitlines()]
    assert "started" in events[0]
    assert events[-1]["finished"]["text"] == text
    several = palimpsest("generate", "the quick", *ask, "-n", 3, "--temperature", 1, "--seed", 5)
    assert {line[:3] for line in several.out.splitlines() if line[:1] == "["} >= {"[0]", "[1]", "[2]"}
    scored = palimpsest("generate", "the quick", *ask, "--logprobs", 2)
    assert "log-probability" in scored.out
    assert palimpsest("generate", "x", "--model", "nobody").code == Exit.NOT_FOUND
    assert palimpsest("generate", "x", *ask, "--top-p", 7).code == Exit.USAGE


def test_batch(palimpsest, cli_model, tmp_path):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"id": "a", "prompt": "the"}\n{"id": "b"}\n')
    done = palimpsest("batch", source, "--model", cli_model, "--max-tokens", 4, "--out", out, "--json")
    assert done.code == 0, done.err
    assert (done.json["succeeded"], done.json["failed"]) == (1, 1)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["id"] for line in lines] == ["a", "b"]
    assert "outputs" in lines[0]
    assert "error" in lines[1]
    queued = palimpsest("batch", source, "--model", cli_model, "--no-wait", "--skip-cache", "--json").json
    assert palimpsest("jobs", "watch", queued["name"]).code == 0


@pytest.fixture
def job(palimpsest, tiny_model):
    queued = palimpsest("models", "register", "cli-job", tiny_model.parent / "none", "--no-wait", "--json")
    return queued.json["name"].removeprefix("operations/")


def test_jobs(palimpsest, job):
    watched = palimpsest("jobs", "watch", job)
    assert watched.code == Exit.NOT_FOUND
    assert palimpsest("jobs", "show", job, "--json").json["metadata"]["state"] == "JOB_STATE_FAILED"
    shown = palimpsest("jobs", "show", f"operations/{job}").out
    assert re.search(r"^state +failed$", shown, re.MULTILINE)
    assert "JOB_STATE" not in shown
    assert job in palimpsest("jobs", "list", "--state", "failed").out
    listed = palimpsest("jobs", "list", "--limit", 1000, "--json").json
    assert f"operations/{job}" in {operation["name"] for operation in listed}
    assert palimpsest("jobs", "list", "--state", "asleep").code == Exit.USAGE
    assert palimpsest("jobs", "cancel", job).code == 0
    assert palimpsest("jobs", "retry", job).code == 0
    lines = palimpsest("jobs", "watch", job, "--json")
    assert lines.code == Exit.NOT_FOUND
    assert json.loads(lines.out.splitlines()[-1])["state"] == "JOB_STATE_FAILED"
    assert palimpsest("jobs", "retry", job).code == 0
    palimpsest("jobs", "watch", job)
    assert palimpsest("jobs", "delete", job).code == 0
    assert palimpsest("jobs", "show", job).code == Exit.NOT_FOUND


def test_settings_are_shown(palimpsest):
    rows = palimpsest("config", "show", "--json").json
    assert {"PALIMPSEST_STATE_DIR", "PALIMPSEST_LISTEN"} <= {row["variable"] for row in rows}
    assert "PALIMPSEST_STATE_DIR" in palimpsest("config", "show").out


def test_doctor_finds_this_machine_fit(palimpsest):
    findings = {f["check"]: f for f in palimpsest("doctor", "--json").json}
    assert findings["Python"]["state"] == "ok"
    assert findings["Valkey"]["state"] == "ok"
    assert all(f["remedy"] for f in findings.values() if f["state"] != "ok")


def test_ctrl_c_ends_a_stream_with_130(stack, cli_model):
    words = [
        "generate",
        "the",
        "--model",
        cli_model,
        "--max-tokens",
        "1900",
        "--ignore-eos",
        "--json",
        "-n",
        "8",
    ]
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "palimpsest.cli",
            *words,
            "--server",
            stack.target,
            "--token",
            stack.token or "",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # What a shell starts in the background inherits that it is deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        first = process.stdout.readline()
        assert b"started" in first, process.communicate(timeout=30)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == Exit.INTERRUPTED
    assert b"Traceback" not in err


def test_a_reader_that_has_enough_is_no_error(stack, cli_model):
    words = ["generate", "the", "--model", cli_model, "--max-tokens", "200", "--ignore-eos", "--json"]
    command = [
        sys.executable,
        "-m",
        "palimpsest.cli",
        *words,
        "--server",
        stack.target,
        "--token",
        stack.token or "",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
    assert b"Traceback" not in err
    assert process.returncode == 0


def test_a_conversation(palimpsest, cli_model, tmp_path):
    saved = tmp_path / "talk.jsonl"
    lines = f"the quick\n\n/system Be brief.\nthe\nfox\n/save {saved}\n/what\n/quit\nnever\n"
    ask = ("chat", "--model", cli_model, "--max-tokens", 4)
    said = palimpsest(*ask, input=lines)
    assert said.code == 0, said.err
    assert len(said.out.splitlines()) >= 3
    assert "There is no /what" in said.err
    messages = json.loads(saved.read_text())["messages"]
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user", "assistant"]
    assert [m["content"] for m in messages[1::2]] == ["the", "fox"]
    answers = [json.loads(line) for line in palimpsest(*ask, "--json", input="the\nfox\n").out.splitlines()]
    assert [a["role"] for a in answers] == ["assistant", "assistant"]
    with_history = palimpsest("batch", saved, "--model", cli_model, "--max-tokens", 4)
    assert with_history.code == 0, with_history.err


def test_an_answer_sees_the_conversation_before_it(palimpsest, cli_model, stack):
    ask = ("chat", "--model", cli_model, "--max-tokens", 6, "--json")
    first, second = [json.loads(x)["content"] for x in palimpsest(*ask, input="the\nfox\n").out.splitlines()]
    turns = [
        {"role": "user", "content": "the"},
        {"role": "assistant", "content": first},
        {"role": "user", "content": "fox"},
    ]
    with Client(stack.target, token=stack.token) as client:
        assert client.decoding.text(model=cli_model, messages=turns, max_tokens=6) == second


def test_score(palimpsest, cli_model):
    scored = palimpsest("score", "the quick brown fox", "--model", cli_model, "--json").json
    assert len(scored["tokens"]) >= 1
    assert scored["total_logprob"] == pytest.approx(sum(t["logprob"] for t in scored["tokens"]))
    shown = palimpsest(
        "score", "-", "--model", cli_model, "--tokens", "--top", 2, input="the quick brown fox"
    )
    assert f"{scored['perplexity']:.4f}" in shown.out
    assert "alternatives" in shown.out
    assert palimpsest("score", "x", "--model", "nobody").code == Exit.NOT_FOUND
