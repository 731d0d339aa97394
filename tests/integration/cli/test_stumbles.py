"""What a new user trips over: each once, with its siblings."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from palimpsest import Client
from palimpsest.cli.output.exits import Exit
from tests.integration.conftest import Served
from tests.waiting import until


def test_a_batch_whose_every_line_failed_says_why_and_fails(palimpsest, cli_model, tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text('{"id": "a"}\n\n{"prompt": "x", "temprature": 1}\n{"prompt": ""}\n')
    done = palimpsest("batch", source, "--model", cli_model)
    assert done.code == Exit.FAILED
    assert "3 of 3 lines failed" in done.err
    assert "2 x BATCH_LINE_INVALID, first in line 1: A line needs either a prompt or messages" in done.err
    assert "1 x PROMPT_EMPTY, first in line 3" in done.err


def test_a_batch_of_which_some_lines_failed_says_why(palimpsest, cli_model, tmp_path):
    done = palimpsest(
        "batch", "-", "--model", cli_model, "--max-tokens", 2, input='{"prompt": "the"}\n{"id": 1}\n'
    )
    assert done.code == Exit.OK, done.err
    assert "1 of 2 lines failed" in done.err
    assert "first in line 2" in done.err


@pytest.fixture
def words(palimpsest, cli_model) -> str:
    palimpsest("corpus", "create", "stumbles", "--model", cli_model, "--encoder", "hashed-words")
    return "stumbles"


def test_a_corpus_takes_a_document_from_standard_input(palimpsest, words):
    text = "Ink is made of oak galls. " * 4
    added = palimpsest("corpus", "add", words, "-", "--document", "ink", input=text)
    assert added.code == 0, added.err
    assert added.out.startswith("ink: added, version 1")
    shown = palimpsest("corpus", "show", words, "ink", "--json").json
    assert shown["document"] == "ink"
    assert "stdin: added" in palimpsest("corpus", "add", words, "-", "--no-build", input="A quill. " * 9).out


def test_other_commands_read_standard_input_too(palimpsest, words, cli_model):
    text = "Ink is made of oak galls, and a quill is cut from a feather. " * 4
    built = palimpsest(
        "ngrams", "build", "stumbles", "--file", "-", "--model", cli_model, "--json", input=text
    )
    assert built.code == 0, built.err
    assert built.json["token_count"] > 0


def test_one_set_of_verbs_and_the_others_as_aliases(palimpsest, words, cli_model):
    for group in ("jobs", "models", "kv", "corpus", "ngrams", "artifacts"):
        listed, old = palimpsest(group, "list"), palimpsest(group, "ls")
        assert listed.code == old.code == 0
        assert listed.out == old.out
        for verb in ("show", "stat", "delete", "rm"):
            assert palimpsest(group, verb, "--help").code == 0
        helped = palimpsest(group, "--help").out
        assert re.search(r"\blist\b", helped)
        assert not re.search(r"^\W*(ls|stat|rm)\b", helped, re.MULTILINE)
    assert palimpsest("corpus", "stat", words).out == palimpsest("corpus", "show", words).out


def test_deletions_say_what_they_deleted(palimpsest, cli_model, tiny_model, tmp_path):
    palimpsest("corpus", "create", "gone", "--model", cli_model, "--encoder", "hashed-words")
    assert palimpsest("corpus", "delete", "gone", "--yes").out == "Deleted corpora/gone.\n"
    palimpsest("models", "register", "cli-gone", tiny_model)
    assert palimpsest("models", "delete", "cli-gone").out == "Deleted cli-gone.\n"
    digest = palimpsest("artifacts", "put", "-", input="nothing refers to this").out.strip()
    assert palimpsest("artifacts", "delete", digest).out == f"Deleted {digest}.\n"


def test_ids_may_be_given_by_their_first_characters(palimpsest, tiny_model):
    queued = palimpsest("models", "register", "cli-prefix", tiny_model, "--no-wait", "--json").json
    id = queued["name"].removeprefix("operations/")
    assert palimpsest("jobs", "watch", id[:10]).code == 0
    assert palimpsest("jobs", "show", id[:10], "--json").json["name"] == queued["name"]
    assert palimpsest("jobs", "show", f"operations/{id[:10]}", "--json").json["name"] == queued["name"]
    assert palimpsest("jobs", "show", "zzzzzzzz").code in (Exit.NOT_FOUND, Exit.USAGE)
    digest = palimpsest("artifacts", "put", "-", input="found by a prefix").out.strip()
    for given in (digest[:20], digest.removeprefix("sha256:")[:12]):
        assert palimpsest("artifacts", "show", given, "--json").json["digest"] == digest
    assert palimpsest("artifacts", "get", digest[:20]).out == "found by a prefix"
    assert palimpsest("jobs", "delete", id[:10]).out == f"Deleted operations/{id}.\n"


def test_a_job_that_has_succeeded_is_in_no_stage(palimpsest, tiny_model):
    name = palimpsest("models", "register", "cli-stage", tiny_model, "--no-wait", "--json").json["name"]
    assert palimpsest("jobs", "watch", name).code == 0
    assert palimpsest("jobs", "show", name, "--json").json["metadata"]["stage"] == ""
    (row,) = [o for o in palimpsest("jobs", "list", "--json").json if o["name"] == name]
    assert row["metadata"]["stage"] == ""


def test_tables_say_enum_values_without_their_prefix(palimpsest, cli_model, tiny_model):
    palimpsest(
        "models", "register", "cli-child", tiny_model, "--parent", cli_model, "--relation", "fine_tuned"
    )
    shown = palimpsest("models", "show", "cli-child").out
    assert re.search(r"^relation +fine_tuned$", shown, re.MULTILINE)
    assert palimpsest("models", "show", "cli-child", "--json").json["relation"] == "RELATION_FINE_TUNED"


def test_ctrl_c_says_that_the_job_goes_on(stack: Served, tiny_model: Path, tmp_path: Path, cli_model):
    source = tmp_path / "long.jsonl"
    source.write_text("".join(json.dumps({"prompt": "the", "seed": i}) + "\n" for i in range(3000)))
    environment = os.environ | {"PALIMPSEST_SERVER": stack.target, "PALIMPSEST_TOKEN": stack.token or ""}
    command = [
        sys.executable,
        "-m",
        "palimpsest.cli",
        "batch",
        str(source),
        "--model",
        cli_model,
        "--skip-cache",
    ]
    run = subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert run.stderr is not None
    name = run.stderr.readline().strip()
    with Client(stack.target, token=stack.token) as client:
        until(lambda: client.job(name).progress().stage)
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=60)
        assert run.returncode == Exit.INTERRUPTED
        assert f"`palimpsest jobs watch {name.removeprefix('operations/')}` comes back to it" in said
        assert not client.job(name).done()
        client.job(name).cancel()
        client.job(name).wait(timeout=60)
