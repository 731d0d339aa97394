"""Fields of requests: what they are in the contract, and what contradicts itself."""

import json

import pytest

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.client.requests import build
from services.gateway.bodies import checked
from services.gateway.endpoints.chat import ChatBody
from services.gateway.endpoints.completions import CompletionsBody
from services.gateway.errors import ApiError


def request(**fields) -> pb.GenerateRequest:
    body = checked(CompletionsBody, {"prompt": "a", **fields}, "/v1/completions")
    return build(pb.GenerateRequest, {"model": "m", "prompt": "a", **body.request()}, "x")


def test_defaults_are_openais():
    made = request()
    assert made.sampling.temperature == 1
    assert made.n == 1
    assert not made.HasField("structured")
    assert not {field.name for field, _ in made.sampling.ListFields()} & {"presence_penalty", "logit_bias"}


def test_every_field_of_sampling_reaches_the_contract():
    made = request(
        temperature=0.5, top_p=0.9, top_k=40, min_p=0.1, seed=7, repetition_penalty=1.2, presence_penalty=0.5,
        frequency_penalty=-0.5, logit_bias={"5": -100, "7": 1.5}, min_tokens=3, stop_token_ids=[1, 2],
        bad_words=["x"], ignore_eos=True, cache_salt="s", stop="end", n=2,
    )  # fmt: skip
    sampling = made.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (0.5, 0.9, 40, 0.1)
    assert (sampling.repetition_penalty, sampling.presence_penalty, sampling.frequency_penalty) == (
        1.2,
        0.5,
        -0.5,
    )
    assert dict(sampling.logit_bias) == {5: -100, 7: 1.5}
    assert (made.min_tokens, list(made.stop_token_ids), list(made.bad_words)) == (3, [1, 2], ["x"])
    assert (made.ignore_eos, made.cache_salt, list(made.stop), made.n) == (True, "s", ["end"], 2)
    assert sampling.seed == 7


def test_a_negative_seed_is_as_good_as_another():
    assert request(seed=-1).sampling.seed == (1 << 64) - 1


@pytest.mark.parametrize(
    ("fields", "form", "value"),
    [
        ({"response_format": {"type": "text"}}, None, None),
        ({"response_format": {"type": "json_object"}}, "json_schema", {"type": "object"}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"a": 1}}}},
            "json_schema",
            {"a": 1},
        ),
        ({"structured_outputs": {"json": {"a": 1}}}, "json_schema", {"a": 1}),
    ],
)
def test_forms_are_schemas_in_the_contract(fields, form, value):
    made = request(**fields)
    assert made.structured.WhichOneof("form") == form
    if form:
        assert json.loads(made.structured.json_schema) == value


def test_extensions_are_forms_of_their_own():
    assert request(structured_outputs={"regex": "a+"}).structured.regex == "a+"
    assert request(structured_outputs={"grammar": "start: x"}).structured.grammar == "start: x"
    assert list(request(structured_outputs={"choice": ["a", "b"]}).structured.choice.texts) == ["a", "b"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"structured_outputs": {"regex": "a", "grammar": "b"}}, "structured_outputs"),
        ({"structured_outputs": {"xml": "a"}}, "structured_outputs.xml"),
        (
            {"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}},
            "structured_outputs",
        ),
        ({"response_format": {"type": "text", "json_schema": {"schema": {}}}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}, "strict": False}}},
            "response_format.json_schema.strict",
        ),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"stop_token_ids": ["a"]}, "stop_token_ids[0]"),
        ({"temperature": True}, "temperature"),
        ({"n": 1.5}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"user": 5}, "user"),
        ({"service_tier": "flex"}, "service_tier"),
    ],
)
def test_what_contradicts_itself_is_named(fields, param):
    with pytest.raises(ApiError) as caught:
        request(**fields)
    assert (caught.value.status, caught.value.param) == (400, param)


def test_every_field_that_nobody_knows_is_named_at_once():
    with pytest.raises(ApiError) as caught:
        checked(ChatBody, {"messages": [], "one": 1, "two": 2}, "/v1/chat/completions")
    assert "one, two" in caught.value.message
