"""``palimpsest ngrams`` against the real stack: every command, for people and for programs."""

import json
import uuid

import pytest

TEXT = "A quill is cut from a feather, and a pen is cut from a reed. "


@pytest.fixture
def name() -> str:
    return f"cli-{uuid.uuid4().hex[:8]}"


def test_a_store_of_a_corpus_from_building_to_deletion(palimpsest, cli_model, tmp_path, name):
    tmp_path.joinpath("quill.txt").write_text(TEXT)
    palimpsest("corpus", "create", name, "--model", cli_model, "--encoder", "hashed-words")
    assert palimpsest("ngrams", "build", name, "--corpus", name).code == 5
    palimpsest("corpus", "add", name, tmp_path)
    built = palimpsest("ngrams", "build", name, "--corpus", name, "--label", "of=quills", "--json")
    assert built.code == 0, built.err
    assert built.json["name"] == f"ngramStores/{name}"
    assert built.json["corpus"] == f"corpora/{name}"
    assert built.json["labels"] == {"of": "quills"}
    assert palimpsest("ngrams", "show", name, "--json").json == built.json
    shown = palimpsest("ngrams", "show", f"ngramStores/{name}")
    assert f"corpora/{name} at epoch" in shown.out
    assert "bytes a token" in shown.out
    assert name in palimpsest("ngrams", "list").out
    listed = palimpsest("ngrams", "list", "--json").json
    assert built.json in listed
    looked = palimpsest("ngrams", "show", name, "is cut from a", "-k", 2, "--json").json
    assert looked["orders"][-1]["total"] == 2
    assert looked["coverage"] == 1
    people = palimpsest("ngrams", "show", name, "is cut from a")
    assert "' ' 2" in people.out
    assert "100% of the text" in people.out
    again = palimpsest("ngrams", "build", name, "--corpus", name, "--label", "of=quills", "--json")
    assert again.json == built.json
    taken = palimpsest("ngrams", "build", name, "--corpus", name, "--json")
    assert json.loads(taken.err)["error"]["reason"] == "NGRAM_STORE_EXISTS"
    assert palimpsest("ngrams", "delete", name, "--json").json == {"deleted": f"ngramStores/{name}"}
    assert palimpsest("ngrams", "show", name).code == 3


def test_a_store_of_a_file(palimpsest, cli_model, tmp_path, name):
    plain, lines = tmp_path / "a.txt", tmp_path / "a.jsonl"
    plain.write_text(TEXT * 2)
    lines.write_text((json.dumps({"text": TEXT}) + "\n") * 3)
    whole = palimpsest("ngrams", "build", name, "--file", plain, "--model", cli_model, "--json").json
    parts = palimpsest("ngrams", "build", f"{name}-l", "--file", lines, "--model", cli_model, "--json").json
    assert (whole["document_count"], parts["document_count"]) == (1, 3)
    queued = palimpsest("ngrams", "build", name, "--file", plain, "--model", cli_model, "--no-wait", "--json")
    assert queued.json["name"].startswith("operations/")
    assert palimpsest("ngrams", "build", f"{name}-x", "--file", tmp_path / "none", "-m", cli_model).code == 3
    for options in ((), ("--corpus", name, "--file", plain)):
        assert palimpsest("ngrams", "build", name, *options).code == 2


def test_a_store_is_tuned_on_a_text_and_drafts_go_by_it(palimpsest, cli_model, tmp_path, name):
    built_of, texts = tmp_path / "quill.txt", tmp_path / "texts.txt"
    built_of.write_text(TEXT * 3 + name)
    texts.write_text("A reed is cut with a knife. " * 4)
    assert palimpsest("ngrams", "build", name, "--file", built_of, "--model", cli_model).code == 0
    tuned = palimpsest("ngrams", "tune", name, "--file", texts, "--model", cli_model, "-k", 2)
    assert tuned.code == 0, tuned.err
    assert "perplexity of the drafts" in tuned.out
    found = palimpsest("ngrams", "tune", name, "--file", texts, "--model", cli_model, "-k", 2, "--json").json
    asked = ("A quill is cut", "--strategy", "superposed", "--ngrams", name, "--model", cli_model, "--json")
    plan = palimpsest("drafts", *asked).json["plan"]
    assert (plan["alpha"], plan["temperature"]) == (found["alpha"], found["temperature"])
    assert palimpsest("ngrams", "tune", "nowhere", "--file", texts, "--model", cli_model).code == 3
