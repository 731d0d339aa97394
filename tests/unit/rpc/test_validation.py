import math

import pytest

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.api.jobs.v1 import jobs_pb2
from palimpsest.api.models.v1 import models_pb2
from palimpsest.errors import InvalidArgument, Reason
from palimpsest.rpc.validation import validate


def fields(message) -> dict[str, str]:
    with pytest.raises(InvalidArgument) as caught:
        validate(message)
    assert caught.value.reason == Reason.INVALID_REQUEST
    return {v.field: v.description for v in caught.value.violations}


def test_a_valid_request_passes():
    validate(pb.GenerateRequest(model="smollm2-135m", prompt="Hi", stop=["."], logprobs=-1))


def test_every_broken_limit_is_named():
    got = fields(
        pb.GenerateRequest(
            model="No Such/Name",
            sampling=pb.SamplingConfig(temperature=-1, top_p=0.0),
            n=65,
            logprobs=65,
            stop=["x"] * 17,
        )
    )
    assert set(got) == {"model", "sampling.temperature", "sampling.top_p", "n", "logprobs", "stop"}
    assert "smollm2-135m" in got["model"]


def test_nested_messages_are_reached():
    chat = pb.ChatMessages(messages=[pb.ChatMessage(role="user", content="a"), pb.ChatMessage(role="robot")])
    assert set(fields(pb.GenerateRequest(model="m", chat=chat))) == {"chat.messages[1].role"}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_never_pass(value):
    assert set(fields(pb.GenerateRequest(model="m", sampling=pb.SamplingConfig(temperature=value)))) == {
        "sampling.temperature"
    }


def test_a_missing_required_field_says_what_it_is():
    assert "smollm2-135m" in fields(pb.ScoreRequest())["model"]
    assert set(fields(jobs_pb2.RetryJobRequest())) == {"name"}


def test_an_unknown_enum_number_is_refused():
    request = models_pb2.RegisterModelRequest(model_id="m", source="sample", relation=77)  # type: ignore[arg-type]
    assert set(fields(request)) == {"relation"}


def test_items_are_measured_one_by_one():
    assert set(fields(pb.GenerateRequest(model="m", stop=["ok", "y" * 257]))) == {"stop[1]"}


def test_a_digest_is_not_a_path():
    assert set(fields(pb.GenerateBatchRequest(model="m", input="../../etc/passwd"))) == {"input"}


def test_values_of_a_map_are_within_bounds_one_by_one():
    config = pb.SamplingConfig(logit_bias={1: 100.0, 2: -100.5, 7: math.nan})
    assert set(fields(pb.GenerateRequest(model="m", sampling=config))) == {
        "sampling.logit_bias[2]",
        "sampling.logit_bias[7]",
    }


def test_a_map_holds_no_more_than_its_limit():
    config = pb.SamplingConfig(logit_bias=dict.fromkeys(range(1025), 0.0))
    assert "1025 items" in fields(pb.GenerateRequest(model="m", sampling=config))["sampling.logit_bias"]
