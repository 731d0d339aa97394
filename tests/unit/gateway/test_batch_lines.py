"""Lines of batches: from OpenAI's form to the job's, and back from its results."""

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.client.requests import build
from services.decoding.lines import parse_line
from services.gateway.batches.inputs import Conversion
from services.gateway.batches.lines import body_of, converted, parsed
from services.gateway.batches.records import BatchRecord
from services.gateway.batches.results import converted as answered
from services.gateway.errors import ApiError

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
RECORD = BatchRecord(
    created_at=7, nonce="n0", input_file_id="file-1", endpoint=TEXT, model="m", operation="operations/1",
    lines=2, refused=0, metadata=None,
)  # fmt: skip


def line(url=TEXT, name="a", **body) -> bytes:
    return json.dumps({"custom_id": name, "method": "POST", "url": url, "body": body}).encode()


def fields(url=TEXT, **body):
    return converted(body_of(parsed(line(url, **body), url)), chat_tokens=99)


def ran(*lines, endpoint=TEXT, most=100):
    made = Conversion(endpoint, "n0", "", 99, most)
    requests, errors = io.BytesIO(), io.BytesIO()
    made.run(io.BytesIO(b"\n".join(lines)), requests, errors)
    return (
        made,
        [json.loads(each) for each in requests.getvalue().splitlines()],
        [json.loads(each) for each in errors.getvalue().splitlines()],
    )


def test_a_completion_is_the_line_that_it_says():
    made = fields(model="m", prompt="the", stop="end", seed=-1, logit_bias={"5": -100}, top_k=-1)
    assert made == {
        "prompt": "the", "max_tokens": 16, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "n": 1,
        "seed": (1 << 64) - 1, "logit_bias": {"5": -100.0}, "stop": ["end"],
    }  # fmt: skip


def test_a_chat_has_its_messages_and_a_maximum_of_its_own():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    made = fields(CHAT, messages=[{"role": "user", "content": parts}])
    assert made["messages"] == [{"role": "user", "content": "ab"}]
    assert made["max_tokens"] == 99
    assert fields(CHAT, messages=[{"role": "user"}], max_completion_tokens=5)["max_tokens"] == 5


def test_forms_are_kept():
    schema = {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}
    assert fields(prompt="a", response_format=schema)["structured"] == {"json_schema": '{"type":"object"}'}
    assert fields(prompt="a", structured_outputs={"choice": ["a", "b"]})["structured"] == {
        "choice": ["a", "b"]
    }


@pytest.mark.parametrize(
    ("url", "body", "param"),
    [
        (TEXT, {"prompt": "a", "stream": True}, "stream"),
        (TEXT, {"prompt": "a", "colour": 1}, "colour"),
        (TEXT, {"prompt": "a", "suffix": "b"}, "suffix"),
        (TEXT, {"prompt": ["a", "b"]}, "prompt"),
        (TEXT, {"prompt": [1, 2]}, "prompt"),
        (TEXT, {"prompt": "a", "echo": True}, "echo"),
        (TEXT, {"prompt": "a", "logprobs": 1}, "logprobs"),
        (TEXT, {"prompt": "a", "best_of": 2}, "best_of"),
        (TEXT, {"prompt": "a", "drafts": {}}, "drafts"),
        (TEXT, {"prompt": "a", "context": "contexts/x"}, "context"),
        (TEXT, {"prompt": "a", "corpora": ["corpora/x"]}, "corpora"),
        (TEXT, {"prompt": "a", "cache_salt": "s"}, "cache_salt"),
        (TEXT, {"prompt": "a", "ignore_eos": True}, "ignore_eos"),
        (TEXT, {"prompt": "a", "n": 65}, "n"),
        (TEXT, {}, "prompt"),
        (CHAT, {"messages": []}, "messages"),
        (CHAT, {"messages": [{"role": "developer", "content": "a"}]}, "messages[0].role"),
        (CHAT, {"messages": [{"role": "user"}], "logprobs": True}, "logprobs"),
        (CHAT, {"messages": [{"role": "user"}], "tool_choice": "required"}, "tool_choice"),
        (CHAT, {"messages": [{"role": "user"}], "tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    ],
)  # fmt: skip
def test_what_a_batch_does_not_take_is_named(url, body, param):
    with pytest.raises(ApiError) as caught:
        fields(url, **body)
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize(
    ("given", "param", "code"),
    [
        (b"{", None, "invalid_json_line"),
        (b"[]", None, "invalid_json_line"),
        (line(CHAT, messages=[]), "url", "mismatched_url"),
        (line(name=""), "custom_id", "invalid_value"),
        (line(name="a" * 513), "custom_id", "invalid_value"),
        (b'{"custom_id": "a"}', "method", "missing_required_parameter"),
        (line().replace(b"POST", b"GET"), "method", "invalid_value"),
        (line()[:-1] + b', "more": 1}', "more", "unsupported_field"),
    ],
)
def test_a_line_that_is_no_request_says_why(given, param, code):
    with pytest.raises(ApiError) as caught:
        parsed(given, TEXT)
    assert (caught.value.param, caught.value.code) == (param, code)


def test_bad_lines_go_to_the_error_file_and_the_others_on():
    made, requests, errors = ran(
        line(name="one", model="m", prompt="a"), b"", b"{", line(name="one", model="m", prompt="b"),
        line(name="two", model="m", prompt="a", colour=1), line(name="three", model="m", prompt="é"),
    )  # fmt: skip
    assert (made.model, made.lines, made.refused) == ("m", 5, 3)
    assert [each["custom_id"] for each in requests] == ["one", "three"]
    assert [each["custom_id"] for each in errors] == [None, "one", "two"]
    assert [each["id"] for each in errors] == ["batch_req_n0-1", "batch_req_n0-2", "batch_req_n0-3"]
    assert errors[2]["response"]["body"]["error"]["param"] == "colour"


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([line(name="a", model="m", prompt="a"), line(name="b", model="n", prompt="a")], "mismatched_model"),
        ([line(prompt="a")], "invalid_input_file"),  # no model
        ([b""], "invalid_input_file"),
        ([line(name=str(at), model="m", prompt="a") for at in range(4)], "invalid_value"),
    ],
)
def test_a_file_that_is_no_batch_is_refused_whole(lines, code):
    with pytest.raises(ApiError) as caught:
        ran(*lines, most=3)
    assert (caught.value.code, caught.value.param) == (code, "input_file_id")


def test_a_result_is_a_response_of_its_endpoint():
    output = {"text": "b", "finish_reason": "eos", "prompt_tokens": 3, "generated_tokens": 2}
    cut = {**output, "finish_reason": "length", "generated_tokens": 4}
    result = {"id": "a", "custom_id": "a", "index": 1, "outputs": [output, cut]}
    found = json.loads(answered(RECORD, result))
    assert found == {
        "id": "batch_req_n0-j-1",
        "custom_id": "a",
        "response": {
            "status_code": 200,
            "request_id": "req-n0-j-1",
            "body": {
                "id": "cmpl-n0-j-1", "object": "text_completion", "created": 7, "model": "m",
                "choices": [
                    {"index": 0, "text": "b", "logprobs": None, "finish_reason": "stop", "stop_reason": None},
                    {"index": 1, "text": "b", "logprobs": None, "finish_reason": "length", "stop_reason": None},
                ],
                "usage": {"prompt_tokens": 3, "completion_tokens": 6, "total_tokens": 9},
            },
        },
        "error": None,
    }  # fmt: skip
    chat = json.loads(answered(RECORD.model_copy(update={"endpoint": CHAT}), result))["response"]["body"]
    assert chat["object"] == "chat.completion"
    assert chat["choices"][0]["message"] == {"role": "assistant", "content": "b", "refusal": None}


def test_an_error_of_the_room_is_what_it_would_have_answered():
    told = {"code": "INVALID_ARGUMENT", "reason": "PROMPT_TOO_LONG", "message": "Too long."}
    found = json.loads(answered(RECORD, {"index": 0, "custom_id": "a", "error": told}))
    assert found["response"]["status_code"] == 400
    assert found["response"]["body"]["error"]["code"] == "prompt_too_long"


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "n": st.integers(1, 64),
        "stop": texts | st.lists(texts, max_size=4),
        "seed": st.integers(-(1 << 63), (1 << 63) - 1),
        "temperature": st.floats(0, 2, width=32),
        "top_p": st.just(0.0) | st.floats(2**-20, 1, width=32),
        "top_k": st.integers(-1, 1000),
        "min_p": st.floats(0, 1, width=32),
        "max_tokens": st.integers(1, 5000),
        "repetition_penalty": st.floats(0.5, 2, width=32),
        "presence_penalty": st.floats(-2, 2, width=32),
        "frequency_penalty": st.floats(-2, 2, width=32),
        "logit_bias": st.dictionaries(st.integers(0, 999).map(str), st.floats(-100, 100, width=32), max_size=3),
        "min_tokens": st.integers(0, 9),
        "stop_token_ids": st.lists(st.integers(0, 999), max_size=3),
        "bad_words": st.lists(texts, max_size=3),
        "user": texts,
        "structured_outputs": st.sampled_from([{"regex": "a+"}, {"choice": ["é", "b"]}, {"json": {"type": "object"}}]),
    },
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(bodies, texts, st.booleans())
def test_a_line_makes_the_same_call_as_its_request_by_itself(given, text, chat):
    """What the job's own reader makes of a converted line is what the endpoint would have sent."""
    url = CHAT if chat else TEXT
    asked = {"messages": [{"role": "user", "content": text}]} if chat else {"prompt": text}
    body = body_of(parsed(line(url, **given, **asked), url))
    made = {"custom_id": "a", **converted(body, chat_tokens=99)}
    _, found = parse_line(json.dumps(made).encode(), pb.GenerateRequest(model="m", n=1), seed=5)
    most = given.get("max_tokens", 99 if chat else 16)
    direct = {**body.request(), "model": "m", "max_tokens": most}
    direct |= {"chat": asked["messages"]} if chat else {"prompt": text}
    direct["sampling"].setdefault("seed", 5)
    assert found == build(pb.GenerateRequest, direct, "x")
