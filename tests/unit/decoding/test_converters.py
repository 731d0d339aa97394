"""Converters by event type: a feature registers its own, and a call may add to a copy."""

from dataclasses import dataclass

import pytest

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.decoding.drafts import DraftsEnd
from palimpsest.decoding.quoting import SpanRevoked
from palimpsest.engine import Delta, Event, Finish, Finished, Started
from palimpsest.engine.events import Ended
from services.decoding.convert import DRAFT, GENERATE, Call

CALL = Call(seed=7, fingerprint="sha256:m", write=lambda token: bytes([token]))


@dataclass(frozen=True)
class Mark(Event):
    text: str


@dataclass(frozen=True)
class Stamp(Mark):
    pass


def test_an_event_that_no_module_of_the_room_knows_gets_its_converter_by_registering_it():
    converters = GENERATE.copy()

    @converters.converts(Mark)
    def mark(event: Mark, call: Call) -> pb.GenerateResponse:
        return pb.GenerateResponse(delta=pb.GenerateDelta(index=call.seed, text=event.text))

    assert converters.convert(Mark("x"), CALL).delta == pb.GenerateDelta(index=7, text="x")
    assert converters.convert(Stamp("y"), CALL).delta.text == "y"  # as its base class
    converters.add(Stamp, lambda event, call: pb.GenerateResponse())
    assert converters.convert(Stamp("y"), CALL) == pb.GenerateResponse()
    with pytest.raises(TypeError, match="Mark"):
        GENERATE.convert(Mark("x"), CALL)  # only the copy knows it


def test_each_rpc_has_its_own_message_for_the_same_event():
    started = Started(5, 2)
    message = pb.GenerateStarted(seed=7, prompt_tokens=5, cached_tokens=2, model_fingerprint="sha256:m")
    assert GENERATE.convert(started, CALL) == pb.GenerateResponse(started=message)
    assert DRAFT.convert(started, CALL) == pb.DraftResponse(started=message)
    with pytest.raises(TypeError, match="Delta"):
        DRAFT.convert(Delta(0, "a", (1,)), CALL)


def test_features_register_what_they_add():
    import services.decoding.drafts.messages
    import services.decoding.quoting.messages  # noqa: F401

    revoked = GENERATE.convert(SpanRevoked(1, 2, 3, 4, 5, 6), CALL).revoked
    assert (revoked.index, revoked.span_id, revoked.byte_start, revoked.byte_end) == (1, 2, 3, 4)
    assert DRAFT.convert(DraftsEnd(made=6), CALL).summary.made == 6


def test_what_ends_a_sequence_says_so_by_its_base_class():
    end = Finished(0, Finish.EOS, "", 1, "a", -0.5)
    assert isinstance(end, Ended)
    assert isinstance(DraftsEnd(), Ended)
    assert GENERATE.convert(end, CALL).finished.reason == pb.FINISH_REASON_EOS
