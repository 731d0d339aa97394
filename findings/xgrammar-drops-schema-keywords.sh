#!/usr/bin/env bash
# A JSON schema that xgrammar compiles without an error is not one that it enforces. It leaves out uniqueItems, contains,
# not, dependentRequired, if/then, whatever stands beside a $ref or an anyOf, and all but one part of an allOf: some with
# a line on standard error, most without a word. Constrained by such a schema a model may end with an instance that the
# schema forbids, and the reply looks like a success. llguidance enforces the last three and refuses the others by name.
# Who needs valid JSON has to validate what xgrammar let through, or to look for these keywords before.
#
# Exits with 0 if that is still so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 xgrammar==0.2.9 llguidance==1.9.1 \
    jsonschema==4.26.0
cat > "$folder/look.py" <<'PYTHON'
import json
import sys
from importlib.metadata import version

import jsonschema
import llguidance
import xgrammar

INTEGER = {"type": "integer"}
PAIR = {"type": "object", "properties": {"a": INTEGER, "b": INTEGER}}
CASES = {  # a schema, and an instance that it forbids
    "uniqueItems": ({"type": "array", "items": INTEGER, "uniqueItems": True}, [1, 1]),
    "contains": ({"type": "array", "items": INTEGER, "contains": {"const": 3}}, [1, 2]),
    "not": ({"type": "string", "not": {"const": "no"}}, "no"),
    "dependentRequired": ({**PAIR, "dependentRequired": {"a": ["b"]}}, {"a": 1}),
    "if/then": ({**PAIR, "if": {"required": ["a"]}, "then": {"required": ["b"]}}, {"a": 1}),
    "beside $ref": ({"$defs": {"n": INTEGER}, "$ref": "#/$defs/n", "minimum": 10}, 3),
    "anyOf beside properties": ({**PAIR, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, {}),
    "allOf of two": ({"allOf": [{**INTEGER, "minimum": 5}, {**INTEGER, "maximum": 9}]}, 12),
    "minItems (a control)": ({"type": "array", "items": INTEGER, "minItems": 3}, [1]),
}
END = 256
INFO = xgrammar.TokenizerInfo(
    [bytes([n]) for n in range(256)] + [b"</s>"],
    vocab_type=xgrammar.VocabType.RAW, vocab_size=257, stop_token_ids=[END],
)  # fmt: skip
COMPILER = xgrammar.GrammarCompiler(INFO, max_threads=1, cache_enabled=False)
BYTES = llguidance.LLTokenizer("byte")


def by_xgrammar(schema, text):
    matcher = xgrammar.GrammarMatcher(COMPILER.compile_json_schema(json.dumps(schema)))
    return "let through" if matcher.accept_string(text) and matcher.accept_token(END) else "enforced"


def by_llguidance(schema, text):
    matcher = llguidance.LLMatcher(BYTES, llguidance.grammar_from("json_schema", json.dumps(schema)))
    if matcher.is_error():
        return "refused"
    ids = BYTES.tokenize_str(text)
    whole = matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()
    return "let through" if whole else "enforced"


print(", ".join(f"{name} {version(name)}" for name in ("xgrammar", "llguidance", "jsonschema")))
found = {}
for name, (schema, wrong) in CASES.items():
    assert not jsonschema.Draft202012Validator(schema).is_valid(wrong), name
    text = json.dumps(wrong)
    found[name] = by_xgrammar(schema, text), by_llguidance(schema, text)
    print(f"{name:24} {text:10} xgrammar: {found[name][0]:12} llguidance: {found[name][1]}")
control = found.pop("minItems (a control)")
as_found = control == ("enforced", "enforced") and all(
    ours == "let through" and theirs != "let through" for ours, theirs in found.values()
)
sys.exit(0 if as_found else 1)
PYTHON
"$folder/venv/bin/python" "$folder/look.py"
