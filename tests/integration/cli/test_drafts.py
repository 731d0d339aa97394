"""``palimpsest drafts`` against the real stack: what it prints, for people and for programs, and the page."""

import json
import uuid

import pytest

from palimpsest import Client
from palimpsest.cli.output.exits import Exit

TEXT = "the quick brown fox jumps over the lazy dog and the lazy dog jumps over the brown fox. " * 4


@pytest.fixture
def ask(palimpsest, cli_model):
    return lambda *words, **more: palimpsest("drafts", *words, "--model", cli_model, **more)


def test_drafts_are_listed_best_first_with_how_they_were_made(ask):
    made = ask("the quick", "-k", 2, "--strategy", "beam", "--max-tokens", 6)
    assert made.code == 0, made.err
    assert "log-probability" in made.out
    assert "length" in made.out
    assert "2 drafts, beam, in " in made.err
    same = ask("-k", 2, "--strategy", "beam", "--max-tokens", 6, input="the quick")
    assert same.out == made.out
    assert "expected: " in ask("the quick").err
    healed = ask("over the laz", "--heal", "--strategy", "superposed")
    assert "score" in healed.out
    assert "healed from " in healed.err


def test_json_is_one_object(ask):
    made = ask("the quick", "-k", 3, "--strategy", "verified", "--over-generate", 4, "--json").json
    assert made["plan"]["strategy"] == "verified"
    assert [draft["rank"] for draft in made["drafts"]] == list(range(len(made["drafts"])))
    assert made["summary"]["made"] <= 4
    assert made["seconds"] > 0
    sampled = (
        "the quick",
        "--strategy",
        "nucleus",
        "--temperature",
        1,
        "--top-p",
        0.9,
        "--seed",
        4,
        "--json",
    )
    assert ask(*sampled).json["drafts"] == ask(*sampled).json["drafts"]
    stopped = ask(
        "the", "--strategy", "nucleus", "--temperature", 1, "--seed", 4, "--stop-at", "word", "--json"
    )
    assert all(" " not in draft["text"].strip() for draft in stopped.json["drafts"])


def test_a_corpus_is_quoted_and_its_ngrams_weigh_in(ask, palimpsest, cli_model, stack, tmp_path):
    name = f"cli-{uuid.uuid4().hex[:8]}"
    file = tmp_path / "fox.txt"
    file.write_text(TEXT)
    palimpsest("corpus", "create", name, "--model", cli_model, "--encoder", "hashed-words")
    assert palimpsest("corpus", "add", name, file, "--no-build").code == 0
    with Client(stack.target, token=stack.token) as client:
        client.datastore.build_ngram_store(store_id=name, corpus=f"corpora/{name}").result(timeout=60)
    weighed = ask("the quick brown fox", "--strategy", "superposed", "--ngrams", name, "--alpha", 0.5)
    assert "n-grams cover 100% of the prompt's end, weight 0.5" in weighed.err
    page = tmp_path / "drafts.html"
    quoting = ("jumps over the lazy", "-k", 10, "--over-generate", 10, "--max-tokens", 3, "--stop-at", "word")
    quoted = ask(*quoting, "--corpus", name, "--html", page)
    assert quoted.code == 0, quoted.err
    assert "[1]" in quoted.out
    assert f"{name}{file} v1, bytes " in quoted.out.replace(f"{name}/", name)
    assert 'class="sources"' in page.read_text()
    found = json.loads(ask(*quoting, "--corpus", name, "--json").out)
    assert [d for d in found["drafts"] if d["sources"] and d["sources"][0]["title"] == "fox"]


def test_what_is_wrong_is_said(ask):
    assert ask("x", "--strategy", "guess").code == Exit.USAGE
    assert ask("x", "--stop-at", "page").code == Exit.USAGE
    assert ask("x", "-k", 11).code == Exit.USAGE
    refused = ask("x", "--strategy", "beam", "--reset-every", 3)
    assert refused.code == Exit.USAGE
    assert "reset_every" in refused.err
    assert ask("x", "--ngrams", "nowhere").code == Exit.NOT_FOUND
