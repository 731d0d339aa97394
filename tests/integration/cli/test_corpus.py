"""``palimpsest corpus`` against the real stack: every command, for people and for programs."""

import uuid

import pytest

TEXTS = {
    "ada.txt": "Ada Lovelace wrote the first program, for a machine that was never built.",
    "grace.txt": "Grace Hopper found a moth in a relay and wrote the first compiler.",
}


@pytest.fixture
def folder(tmp_path):
    for name, text in TEXTS.items():
        tmp_path.joinpath(name).write_text(text)
    tmp_path.joinpath(".hidden").write_text("not this")
    return tmp_path


def test_a_corpus_from_creation_to_deletion(palimpsest, cli_model, folder):
    name = f"cli-{uuid.uuid4().hex[:8]}"
    made = palimpsest("corpus", "create", name, "--model", cli_model, "--encoder", "hashed-words", "--json")
    assert made.json["name"] == f"corpora/{name}"
    added = palimpsest("corpus", "add", name, folder)
    assert added.code == 0, added.err
    assert "ada.txt: added, version 1" in added.out
    assert (
        "ada.txt: unchanged, version 1"
        in palimpsest("corpus", "add", name, folder / "ada.txt", "--no-build").out
    )
    assert palimpsest("corpus", "stat", name, "--json").json["document_count"] == 2
    assert palimpsest("corpus", "stat", name, "--json").json["unsealed_tokens"] == 0
    found = palimpsest("corpus", "search", name, "a moth in a relay", "--json").json
    assert found["hits"][0]["source"]["document"].endswith("grace.txt")
    assert "[1] " in palimpsest("corpus", "search", name, "a moth in a relay", "-k", 1).out
    continued = palimpsest("corpus", "continue", name, "They say that Ada Lovelace wrote the", "--json").json
    assert continued["continuations"][0]["text"].startswith(" first program, for a machine")
    shown = palimpsest("corpus", "continue", name, "Who found a moth in a", "--length", 2).out
    assert "grace.txt v1, bytes " in shown
    assert "Matched the last" in shown
    assert "tokens of the text." in shown
    assert "Nothing found." in palimpsest("corpus", "continue", name, "words of nobody at all").out
    listed = palimpsest("corpus", "ls", name, "--json").json
    assert sorted(d["title"] for d in listed) == ["ada", "grace"]
    assert name in palimpsest("corpus", "ls").out
    warmed = palimpsest("corpus", "warm", name, "--json")
    assert warmed.json["computed"] >= 2
    grace = str(folder / "grace.txt")
    assert palimpsest("corpus", "stat", name, grace, "--json").json["version"] == 1
    deleted = palimpsest("corpus", "delete", name, grace, "--json").json
    assert [d["document"] for d in deleted["deleted"]] == [grace]
    assert palimpsest("corpus", "delete", name, grace).code == 3
    receipt = palimpsest("corpus", "purge", name, "--json").json
    assert receipt["purged_count"] == 1
    assert palimpsest("corpus", "compact", name, "--json").code == 0
    assert palimpsest("corpus", "build", name, "--no-wait", "--json").json["name"].startswith("operations/")
    assert palimpsest("corpus", "delete", name).code == 2
    assert palimpsest("corpus", "delete", name, "--yes").code == 0
    assert palimpsest("corpus", "stat", name).code == 3


def test_what_is_no_text_is_said_and_the_rest_is_added(palimpsest, cli_model, folder):
    name = f"cli-{uuid.uuid4().hex[:8]}"
    palimpsest("corpus", "create", name, "--model", cli_model, "--encoder", "hashed-words")
    folder.joinpath("picture.png").write_bytes(b"\x89PNG\xff")
    added = palimpsest("corpus", "add", name, folder, "--no-build")
    assert added.code != 0
    assert "picture.png" in added.err
    assert palimpsest("corpus", "stat", name, "--json").json["document_count"] == 2
    assert palimpsest("corpus", "search", name, "x", "--mode", "psychic").code == 2
