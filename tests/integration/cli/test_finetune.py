"""`palimpsest finetune` against the real stack: a model that learns, an adapter in a file, and what is refused."""

import json
import tarfile

import pytest

from palimpsest import Client
from palimpsest.cli.output.exits import Exit

FACT = "The cat of the house is called Quill."


@pytest.fixture
def data(tmp_path):
    file = tmp_path / "facts.jsonl"
    file.write_text(json.dumps({"text": FACT}) + "\n")
    return file


def test_a_model_learns_a_sentence_and_says_it(palimpsest, cli_model, data, stack):
    options = ["--model", cli_model, "--steps", 40, "--lr", "5e-3", "--label", "kind=test"]
    made = palimpsest(
        "finetune", "--train", data, "--as", "cli-tuned", "--validation", data, *options, "--json"
    )
    assert made.code == 0, made.err
    assert made.json["model"]["model_id"] == "cli-tuned"
    assert made.json["model"]["parent"] == cli_model
    assert made.json["model"]["labels"] == {"kind": "test"}
    assert made.json["validation_loss"] < 0.5 < made.json["first_loss"]
    said = palimpsest("generate", "--model", "cli-tuned", "The cat of", "--max-tokens", 30)
    assert FACT.removeprefix("The cat of") in said.out
    assert palimpsest("models", "delete", "cli-tuned").code == 0


def test_an_adapter_goes_to_a_file(palimpsest, cli_model, data, tmp_path):
    options = ["--model", cli_model, "--steps", 1, "--lora", 2, "--target", "q_proj"]
    made = palimpsest("finetune", "--train", data, *options, "--adapter", tmp_path / "adapter.tar")
    assert made.code == 0, made.err
    assert "not registered" in made.out
    with tarfile.open(tmp_path / "adapter.tar") as tar:
        assert {"adapter_config.json", "adapter_model.safetensors"} <= set(tar.getnames())


def test_a_plain_text_is_one_document(palimpsest, cli_model, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text('{"text" is not JSON here\n')
    made = palimpsest(
        "finetune", "--model", cli_model, "--train", file, "--as", "cli-text", "--steps", 1, "--json"
    )
    assert made.code == 0, made.err
    assert made.json["examples"] == 1
    assert palimpsest("models", "delete", "cli-text").code == 0


def test_without_waiting(palimpsest, cli_model, data, stack):
    options = ["--model", cli_model, "--steps", 1, "--no-wait", "--json"]
    started = palimpsest("finetune", "--train", data, "--as", "cli-later", *options)
    assert started.code == 0, started.err
    assert started.json["name"].startswith("operations/")
    with Client(stack.target, token=stack.token) as client:
        ended = client.jobs.wait(started.json["name"], timeout=60)
        assert ended.HasField("response")
        client.models.delete_model(model_id="cli-later")


@pytest.mark.parametrize(
    "options",
    [
        ["--as", "x", "--steps", 1, "--epochs", 1],
        [],
        ["--as", "x", "--adapter", "a.tar", "--lora", 1],
        ["--adapter", "a.tar"],
        ["--as", "x", "--validation", "v.txt"],
        ["--as", "x", "--label", "no-equals"],
        ["--as", "x", "--schedule", "stairs"],
    ],
)
def test_options_that_make_no_sense(palimpsest, cli_model, data, options):
    refused = palimpsest("finetune", "--model", cli_model, "--train", data, *options)
    assert refused.code == Exit.USAGE, refused.out


def test_a_bad_line_is_named(palimpsest, cli_model, tmp_path):
    file = tmp_path / "bad.jsonl"
    file.write_text('{"text": "fine"}\n{"words": "?"}\n')
    refused = palimpsest("finetune", "--model", cli_model, "--train", file, "--as", "cli-bad")
    assert refused.code == Exit.USAGE
    assert "Line 2" in refused.err
    missing = palimpsest(
        "finetune", "--model", cli_model, "--train", tmp_path / "none.jsonl", "--as", "cli-bad"
    )
    assert missing.code == Exit.NOT_FOUND
