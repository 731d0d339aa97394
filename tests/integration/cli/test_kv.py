"""``palimpsest kv`` against a real server: every command, as text and as JSON."""

import json

import pytest

from palimpsest.cli.output.exits import Exit

TEXT = "the quick brown fox jumps over the lazy dog. " * 12


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("kv") / "text.txt"
    file.write_text(TEXT)
    return file


@pytest.fixture
def context(palimpsest, cli_model, text_file):
    """Encoded by the first test that asks, found by the others."""
    words = ["--model", cli_model, "--id", "cli-kv", "--chunk-tokens", 32, "--label", "kind=test"]
    words += ["--codec", "generic"]  # the tiny model may have been calibrated meanwhile
    levels = ["--level", "lossless", "--level", "high", "--level", "smallest"]
    made = palimpsest("kv", "encode", text_file, *words, *levels, "--json")
    assert made.code == 0, made.err
    return made.json["name"]


def test_encode_ls_stat(palimpsest, context, cli_model):
    assert context == "contexts/cli-kv"
    assert context in palimpsest("kv", "ls").out
    listed = palimpsest("kv", "ls", "--model", cli_model, "--json").json
    assert [each["codec"] for each in listed if each["name"] == context] == ["generic"]
    shown = palimpsest("kv", "stat", "cli-kv")
    for word in ("in chunks of 32", "generic", "lossless", "smallest", "bits/value", "kind"):
        assert word in shown.out
    record = palimpsest("kv", "stat", context, "--json").json
    assert [level["level"] for level in record["levels"]] == ["lossless", "high", "smallest"]
    assert len(record["chunks"]) == -(-record["token_count"] // 32)


def test_load(palimpsest, context, tmp_path):
    loaded = palimpsest("kv", "load", context, "--level", "smallest", "--threads", 2, "--json")
    assert loaded.code == 0, loaded.err
    assert {chunk["level"] for chunk in loaded.json["chunks"]} == {"smallest"}
    assert loaded.json["received_bytes"] == sum(chunk["bytes"] for chunk in loaded.json["chunks"])
    told = palimpsest("kv", "load", "cli-kv", "--loss-budget", "0.000001", "--chunks", 2).out
    assert told.splitlines()[0].strip() == "ll"
    assert "lossless x 2" in told
    assert "of the cache" in told
    late = palimpsest("kv", "load", context, "--deadline", "1ms", "--bandwidth", "10kbps", "--json").json
    assert late["chunks"][-1]["level"] == "smallest"


def test_out_and_put(palimpsest, context, cli_model, tmp_path):
    file = tmp_path / "cache.safetensors"
    assert palimpsest("kv", "load", context, "--level", "lossless", "--out", file).code == 0
    put = palimpsest(
        "kv", "put", file, "--model", cli_model, "--id", "cli-put", "--level", "lossless", "--json"
    )
    assert put.code == 0, put.err
    assert put.json["prefix_digest"] == palimpsest("kv", "stat", context, "--json").json["prefix_digest"]
    assert palimpsest("kv", "put", tmp_path / "none", "--model", cli_model).code == Exit.NOT_FOUND
    (tmp_path / "junk").write_bytes(b"junk")
    assert palimpsest("kv", "put", tmp_path / "junk", "--model", cli_model).code == Exit.USAGE
    assert palimpsest("kv", "rm", "cli-put", "--json").json == {"deleted": ["contexts/cli-put"]}


def test_look_up(palimpsest, context, cli_model, text_file, tmp_path):
    longer = tmp_path / "longer.txt"
    longer.write_text(TEXT + "and then some")
    found = palimpsest("kv", "look-up", longer, "--model", cli_model, "--json").json
    assert found["name"] == context
    assert 0 < found["matched_tokens"] < found["token_count"]
    assert context in palimpsest("kv", "look-up", text_file, "--model", cli_model).out
    other = palimpsest("kv", "look-up", "-", "--model", cli_model, input="zebra")
    assert "Nothing is stored" in other.out


def test_estimate(palimpsest, context):
    words = ["kv", "estimate", context, "--bandwidth", "50kbps", "--deadline", "2s", "--recompute", 400]
    estimated = palimpsest(*words, "--json").json
    assert [way["name"] for way in estimated["ways"]] == [
        "adaptive",
        "lossless",
        "high",
        "smallest",
        "recompute",
    ]
    told = palimpsest(*words).out
    assert "in time" in told
    assert "recompute x" in told
    assert palimpsest("kv", "estimate", context).code == Exit.USAGE
    assert palimpsest("kv", "estimate", context, "--bandwidth", "50").code == Exit.USAGE


def test_bench(palimpsest, context, tmp_path):
    page, picture = tmp_path / "b.html", tmp_path / "b.png"
    bench = palimpsest("kv", "bench", context, "--recompute", 500, "--plot", page, "--json")
    assert bench.code == 0, bench.err
    assert len(bench.json["delays"]["adaptive"]) == len(bench.json["bandwidths"])
    assert bench.json["measured"]["bytes"] > 0
    assert "<svg" in page.read_text()
    told = palimpsest("kv", "bench", context, "--plot", picture)
    assert "Measured here and now" in told.out
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert palimpsest("kv", "bench", context, "--plot", tmp_path / "b.gif").code == Exit.USAGE


def test_generate_goes_on_from_a_context(palimpsest, context, cli_model):
    words = ["generate", " and then", "--model", cli_model, "--max-tokens", 8]
    told = palimpsest(*words, "--context", "cli-kv", "--loss-budget", "0.000001")
    assert told.code == 0, told.err
    assert "tokens of context in" in told.err
    whole = palimpsest("generate", TEXT + " and then", *words[2:])
    assert told.out == whole.out  # lossless or recomputed: the same text
    events = [
        json.loads(line) for line in palimpsest(*words, "--context", context, "--json").out.splitlines()
    ]
    levels = {chunk["level"] for chunk in events[0]["context"]["chunks"]}
    assert levels <= {"lossless", "high", "smallest", "recompute", "held"}
    assert palimpsest(*words, "--context", "nowhere").code == Exit.NOT_FOUND
    late = palimpsest(*words, "--context", context, "--deadline", "never")
    assert late.code == Exit.USAGE


def test_calibrate_and_profile(palimpsest, tiny_model):
    registered = palimpsest("models", "register", "cli-calibrated", tiny_model, "--json")
    assert registered.code == 0, registered.err
    missing = palimpsest("kv", "calibrate", "nobody")
    assert missing.code == Exit.NOT_FOUND
    made = palimpsest(
        "kv",
        "calibrate",
        "cli-calibrated",
        "--documents",
        6,
        "--document-tokens",
        256,
        "--group",
        1,
        "--json",
    )
    assert made.code == 0, made.err
    assert made.json["artifact"].startswith("sha256:")
    told = palimpsest("kv", "profile", "cli-calibrated")
    assert "same first choice" in told.out
    assert made.json["artifact"] in told.out


def test_refusals(palimpsest, context, cli_model, tmp_path):
    assert palimpsest("kv", "stat", "nowhere").code == Exit.NOT_FOUND
    assert palimpsest("kv", "load", "nowhere").code == Exit.NOT_FOUND
    assert palimpsest("kv", "rm", "nowhere").code == Exit.NOT_FOUND
    assert palimpsest("kv", "encode", tmp_path / "none", "--model", cli_model).code == Exit.NOT_FOUND
    assert palimpsest("kv", "load", context, "--level", "perfect").code == Exit.USAGE
    assert palimpsest("kv", "load", context, "--mode", "quality").code == Exit.USAGE
    taken = palimpsest("kv", "encode", "-", "--model", cli_model, "--id", "cli-kv", "--json", input="other")
    assert taken.code == Exit.REFUSED
    assert json.loads(taken.err)["error"]["reason"] == "CONTEXT_EXISTS"
