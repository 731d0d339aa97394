"""Texts of a form, calls that are asked for, and tokens that are forbidden: kept to, or refused by name."""

import json
import re

import jsonschema
import openai
import pytest

MESSAGES = [{"role": "user", "content": "fox?"}]
SCHEMA = {
    "type": "object",
    "properties": {"quick": {"type": "boolean"}, "animal": {"enum": ["fox", "dog"]}},
    "required": ["quick", "animal"],
    "additionalProperties": False,
}


def tool(name: str) -> dict:
    return {"type": "function", "function": {"name": name, "parameters": SCHEMA, "strict": True}}


def test_a_reply_has_the_form_of_its_schema(ask, tiny):
    form = {"type": "json_schema", "json_schema": {"name": "animal", "schema": SCHEMA, "strict": True}}
    for seed in range(3):
        made = ask.chat.completions.create(
            model=tiny, messages=MESSAGES, max_tokens=200, seed=seed, response_format=form
        )
        assert made.choices[0].finish_reason == "stop"
        jsonschema.validate(json.loads(made.choices[0].message.content), SCHEMA)


def test_a_completion_is_one_of_the_choices_or_matches_the_expression(ask, tiny):
    fields = {"model": tiny, "prompt": "the", "max_tokens": 40, "seed": 1}
    chosen = ask.completions.create(**fields, extra_body={"structured_outputs": {"choice": ["fox", "dog"]}})
    assert chosen.choices[0].text in ("fox", "dog")
    matched = ask.completions.create(
        **fields, extra_body={"structured_outputs": {"regex": "[a-c]{3}-[0-9]{2}"}}
    )
    assert re.fullmatch("[a-c]{3}-[0-9]{2}", matched.choices[0].text)


@pytest.mark.parametrize(
    "form",
    [
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "http://elsewhere/schema"}}},
    ],
)
def test_a_schema_that_cannot_be_kept_is_refused(ask, tiny, form):
    with pytest.raises(openai.BadRequestError) as caught:
        ask.chat.completions.create(model=tiny, messages=MESSAGES, max_tokens=20, response_format=form)
    assert caught.value.param.startswith("response_format")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "find"}}])
def test_a_call_that_is_asked_for_is_made(ask, with_tools, choice, stream):
    fields = {
        "model": with_tools, "messages": MESSAGES, "max_tokens": 200, "seed": 2,
        "tools": [tool("look"), tool("find")], "tool_choice": choice,
    }  # fmt: skip
    if stream:
        name, arguments, reason = "", "", None
        for chunk in ask.chat.completions.create(**fields, stream=True):
            assert not chunk.choices[0].delta.content
            for call in chunk.choices[0].delta.tool_calls or []:
                assert call.id.startswith("call_")
                name, arguments = call.function.name, arguments + call.function.arguments
            reason = chunk.choices[0].finish_reason or reason
    else:
        made = ask.chat.completions.create(**fields).choices[0]
        (call,) = made.message.tool_calls
        assert made.message.content is None
        name, arguments, reason = call.function.name, call.function.arguments, made.finish_reason
    assert reason == "tool_calls"
    assert name in (("look", "find") if choice == "required" else ("find",))
    jsonschema.validate(json.loads(arguments), SCHEMA)


def test_tokens_are_biased_and_forbidden(ask, http, tiny):
    fields = {"model": tiny, "prompt": "the quick", "temperature": 0, "max_tokens": 4}
    (word,) = http.post("/tokenize", json={"model": tiny, "prompt": "fox"}).json()["tokens"][-1:]
    piece = http.post("/detokenize", json={"model": tiny, "tokens": [word]}).json()["prompt"]
    always = ask.completions.create(**fields, logit_bias={str(word): 100}).choices[0].text
    assert always == piece * 4
    other = {"logit_bias": {str(word): 100}, "extra_body": {"bad_words": [piece]}}
    assert piece not in ask.completions.create(**fields, **other).choices[0].text


def test_penalties_change_what_repeats(ask, tiny):
    fields = {"model": tiny, "prompt": "fox fox fox", "temperature": 0, "max_tokens": 24}
    bias = {"logit_bias": {"70": 5}}
    plain = ask.completions.create(**fields, **bias).choices[0].text
    for changed in (
        {"frequency_penalty": 2},
        {"presence_penalty": 2},
        {"extra_body": {"repetition_penalty": 3}},
    ):
        assert ask.completions.create(**fields, **bias, **changed).choices[0].text != plain


@pytest.mark.parametrize(
    "fields", [{"presence_penalty": 3}, {"logit_bias": {"5": 1000}}, {"frequency_penalty": -3}]
)
def test_what_is_out_of_range_is_named(ask, tiny, fields):
    with pytest.raises(openai.BadRequestError) as caught:
        ask.completions.create(model=tiny, prompt="a", max_tokens=2, **fields)
    assert caught.value.param.startswith(next(iter(fields)))
