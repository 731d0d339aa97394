"""Calls of tools in replies, in the three forms that chat templates write, whole and in parts."""

import json

import jsonschema
import pytest

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from services.gateway.text.tool_calls import CallParser, grammar_of

NONE, TAGGED, BARE, LIST = (
    pb.Tokenizer.TOOL_CALLS_UNSPECIFIED,
    pb.Tokenizer.TOOL_CALLS_TAGGED,
    pb.Tokenizer.TOOL_CALLS_BARE,
    pb.Tokenizer.TOOL_CALLS_LIST,
)


def parsed(form, text, size):
    parser = CallParser(form)
    found = [parser.push(text[at : at + size]) for at in range(0, len(text), size)] + [parser.finish()]
    calls = [(call.name, json.loads(call.arguments)) for each in found for call in each.calls]
    return "".join(each.text for each in found), calls


ONE = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
@pytest.mark.parametrize(
    ("form", "text", "left", "calls"),
    [
        (NONE, ONE, ONE, []),
        (TAGGED, "Just words, 1 < 2.", "Just words, 1 < 2.", []),
        (TAGGED, ONE, "", [("f", {"a": 1})]),
        (TAGGED, "Look: " + ONE, "Look: ", [("f", {"a": 1})]),
        (TAGGED, ONE + ONE.replace("f", "g"), "", [("f", {"a": 1}), ("g", {"a": 1})]),
        (TAGGED, ONE.removesuffix("</tool_call>"), "", [("f", {"a": 1})]),
        (TAGGED, "<tool_call>not JSON</tool_call>", "<tool_call>not JSON</tool_call>", []),
        (TAGGED, '<tool_call>{"no": "name"}</tool_call>', '<tool_call>{"no": "name"}</tool_call>', []),
        (TAGGED, "<tool_call>{broken", "<tool_call>{broken", []),
        (TAGGED, "ends in <tool", "ends in <tool", []),
        (TAGGED, '<tool_call>{"name": "f", "arguments": "{\\"a\\": 2}"}</tool_call>', "", [("f", {"a": 2})]),
        (BARE, '{"name": "f", "parameters": {"a": "é"}}', "", [("f", {"a": "é"})]),
        (BARE, "Words {and braces}", "Words {and braces}", []),
        (BARE, '{"other": 1}', '{"other": 1}', []),
        (LIST, '[TOOL_CALLS] [{"name": "f", "arguments": {}}, {"name": "g", "arguments": {"b": []}}]', "",
         [("f", {}), ("g", {"b": []})]),
        (LIST, "[1, 2]", "[1, 2]", []),
        (LIST, "[TOOL_CALLS] nonsense", "[TOOL_CALLS] nonsense", []),
    ],
)  # fmt: skip
def test_calls_are_told_from_text_however_it_comes(form, text, left, calls, size):
    found = parsed(form, text, size)
    assert found[1] == calls
    assert found[0].strip() == left.strip()


def test_text_before_a_call_is_not_held_back():
    parser = CallParser(TAGGED)
    assert parser.push("Let me see. <to").text == "Let me see. "
    assert parser.push("day").text == "<today"


def test_every_call_has_an_id_of_its_own():
    parser = CallParser(TAGGED)
    calls = parser.push(ONE + ONE).calls
    assert len({call.id for call in calls}) == 2


def test_a_call_that_is_asked_for_has_a_grammar():
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    bare = json.loads(grammar_of([("f", schema), ("g", {})], BARE)["json_schema"])
    jsonschema.validate({"name": "f", "parameters": {"a": 1}}, bare)
    jsonschema.validate({"name": "g", "parameters": {}}, bare)
    for wrong in ({"name": "f", "parameters": {}}, {"name": "h", "parameters": {}}, {"name": "f"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, bare)
    assert '%json {"type"' in grammar_of([("f", schema)], TAGGED)["grammar"]
    assert grammar_of([("f", schema)], LIST) is None
