"""Options that constrain what is generated, against a real server."""

import json
import re

from palimpsest.cli.output.exits import Exit


def test_a_text_has_the_form_that_is_asked_for(palimpsest, cli_model, tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps({"type": "array", "items": {"enum": [1, 2]}, "minItems": 1, "maxItems": 3}))
    grammar = tmp_path / "grammar.lark"
    grammar.write_text('start: "<" /[a-c]{2}/ ">"')
    common = ("generate", "the quick", "--model", cli_model, "--max-tokens", "60")
    assert set(json.loads(palimpsest(*common, "--json-schema", schema).out)) <= {1, 2}
    assert re.fullmatch("[x-z]{4}", palimpsest(*common, "--regex", "[x-z]{4}").out.strip())
    assert palimpsest(*common, "--choice", "red", "--choice", "blue").out.strip() in ("red", "blue")
    assert re.fullmatch("<[a-c]{2}>", palimpsest(*common, "--grammar", grammar).out.strip())


def test_penalties_and_biases_are_sent(palimpsest, cli_model):
    common = ("generate", "the quick", "--model", cli_model, "--max-tokens", "4", "--ignore-eos")
    same = palimpsest(*common, "--logit-bias", "70=100").out
    assert same == palimpsest(*common, "--logit-bias", "70=90", "--repetition-penalty", "1.0").out
    assert same != palimpsest(*common, "--logit-bias", "71=100").out
    for option in ("--repetition-penalty", "--presence-penalty", "--frequency-penalty"):
        assert palimpsest(*common, option, "1.5").code == 0
    assert palimpsest(*common, "--stop-token", "70", "--min-tokens", "2", "--bad-word", "fox").code == 0


def test_options_that_cannot_be_honoured_are_told(palimpsest, cli_model, tmp_path):
    common = ("generate", "the quick", "--model", cli_model)
    schema = tmp_path / "schema.json"
    schema.write_text('{"uniqueItems": true}')
    refused = palimpsest(*common, "--json-schema", schema)
    assert "uniqueItems" in refused.err
    assert refused.code == Exit.USAGE
    assert refused.out == ""
    for options in (("--regex", "a", "--choice", "b"), ("--logit-bias", "fox"), ("--logit-bias", "-1=2")):
        assert palimpsest(*common, *options).code == Exit.USAGE
    assert palimpsest(*common, "--json-schema", tmp_path / "none.json").code == Exit.NOT_FOUND


def test_a_batch_has_one_form_for_all_lines(palimpsest, cli_model, tmp_path):
    lines, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines.write_text('{"prompt": "the"}\n{"prompt": "fox", "structured": {"regex": "[0-9]{2}"}}\n')
    done = palimpsest("batch", lines, "--model", cli_model, "--out", out, "--choice", "yes", "--choice", "no")
    assert done.code == 0, done.err
    first, second = (json.loads(line)["outputs"][0]["text"] for line in out.read_text().splitlines())
    assert first in ("yes", "no")
    assert re.fullmatch("[0-9]{2}", second)
