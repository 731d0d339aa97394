"""What rooms say, as HTTP answers."""

import pytest

from palimpsest import errors
from palimpsest.errors import Reason, Violation
from palimpsest.status import from_status, to_status
from services.gateway.errors import from_rooms


def answered(error):
    found = from_rooms(from_status(to_status(error)))
    response = found.response()
    return response.status_code, found.body["error"], dict(response.headers)


def test_every_code_has_a_status_and_none_is_a_success():
    statuses = {code: from_rooms(kind("X", "Message.")).status for code, kind in errors.BY_CODE.items()}
    assert set(statuses) == set(errors.Code) - {errors.Code.UNKNOWN}
    assert all(400 <= status < 600 for status in statuses.values())


def test_what_may_succeed_later_says_when():
    busy = errors.ResourceExhausted(Reason.ENGINE_QUEUE_FULL, "Full.", retry_after=2.2)
    status, body, headers = answered(busy)
    assert (status, headers["retry-after"], body["code"]) == (429, "3", "engine_queue_full")
    assert answered(errors.ResourceExhausted(Reason.TOO_MANY_REQUESTS, "Full."))[0] == 429
    assert answered(errors.Unavailable(Reason.SHUTTING_DOWN, "Stopping."))[2]["retry-after"] == "1"


def test_what_never_can_is_not_to_be_sent_again():
    """Clients send 408, 409, 429 and 5xx again by themselves."""
    for error in (
        errors.ResourceExhausted(Reason.ENGINE_MEMORY_FULL, "Larger than the cache."),
        errors.AlreadyExists(Reason.MODEL_EXISTS, "Taken."),
        errors.FailedPrecondition(Reason.CORPUS_MODEL_MISMATCH, "Another model's."),
    ):
        assert answered(error)[0] == 400


@pytest.mark.parametrize(
    ("field", "param"),
    [
        ("sampling.top_p", "top_p"),
        ("chat.messages[1].role", "messages[1].role"),
        ("structured", "response_format"),
        ("max_tokens", "max_tokens"),
        ("nest.corpora[0]", "corpora[0]"),
    ],
)
def test_fields_have_the_names_they_were_sent_under(field, param):
    error = errors.InvalidArgument(
        Reason.INVALID_REQUEST, "The request is not valid.", violations=[Violation(field, "must be less")]
    )
    status, body, _ = answered(error)
    assert (status, body["param"], body["code"]) == (400, param, "invalid_value")
    assert "must be less" in body["message"]


def test_models_that_are_not_there_are_told_as_openai_does():
    status, body, _ = answered(errors.NotFound(Reason.MODEL_NOT_FOUND, "No model 'x'."))
    assert (status, body["code"], body["param"]) == (404, "model_not_found", "model")
    malformed = errors.InvalidArgument(
        Reason.INVALID_REQUEST, "Not valid.", violations=[Violation("model", "must be a model id")]
    )
    assert answered(malformed)[:1] == (404,)
