"""One call of Generate as an endpoint sees it: who is asked, what comes, and what it has come to at the end."""

import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.client.aio.decoding import AsyncDecoding
from palimpsest.errors import InvalidArgument, Reason
from services.gateway.backend import Rooms
from services.gateway.errors import ApiError, bad

REASONS = {
    pb.FINISH_REASON_LENGTH: "length",
    pb.FINISH_REASON_EOS: "stop",
    pb.FINISH_REASON_STOP: "stop",
}
"""Why a text ended, as OpenAI's interface says it."""


@dataclass
class Usage:
    """Tokens of a whole answer."""

    prompt: int = 0
    cached: int = 0
    generated: int = 0

    def take(self, event: pb.GenerateResponse) -> None:
        """Count an event."""
        kind = event.WhichOneof("event")
        if kind == "started":
            self.prompt += event.started.prompt_tokens
            self.cached += event.started.cached_tokens
        elif kind == "finished":
            self.generated += event.finished.generated_tokens

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of it."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.generated,
            "total_tokens": self.prompt + self.generated,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }


@dataclass
class Sequence:
    """One generated text with its tokens."""

    text: str = ""
    tokens: list[pb.TokenLogprob] = field(default_factory=list)
    end: pb.SequenceFinished = field(default_factory=pb.SequenceFinished)
    spans: dict[int, pb.QuotedSpan] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """Why it ended."""
        return REASONS.get(self.end.reason, "stop")


@dataclass
class Generated:
    """Everything that one call gave."""

    sequences: list[Sequence]
    fingerprint: str = ""

    def take(self, event: pb.GenerateResponse) -> None:
        """Take the call's next event."""
        kind = event.WhichOneof("event")
        if kind == "started":
            self.fingerprint = event.started.model_fingerprint
        elif kind == "delta":
            self.sequences[event.delta.index].tokens.extend(event.delta.logprobs)
        elif kind == "finished":
            found = self.sequences[event.finished.index]
            found.end, found.text = event.finished, event.finished.text
        elif kind == "span" and event.span.kind == pb.QuotedSpan.KIND_SPAN:
            self.sequences[event.span.index].spans[event.span.span_id] = event.span
        elif kind == "revoked":
            self.sequences[event.revoked.index].spans.pop(event.revoked.span_id, None)


async def events_of(
    room: AsyncDecoding, fields: Mapping[str, Any], usage: Usage, default_tokens: int = 0
) -> AsyncGenerator[pb.GenerateResponse, None]:
    """The events of a call; closing the iterator ends the call.

    Parameters
    ----------
    room
        Of the caller.
    fields
        Of the request.
    usage
        Counts the call's tokens.
    default_tokens
        The request leaves max_tokens open: this many, or as many as the context has room for.
    """
    asked = dict(fields) if not default_tokens else {**fields, "max_tokens": default_tokens}
    try:
        async with aclosing(_events(room, asked, usage)) as events:
            async for event in events:
                yield event
    except InvalidArgument as error:
        left = _room_left(error) if default_tokens else 0
        if left < 1:
            raise
        asked["max_tokens"] = left
        async with aclosing(_events(room, asked, usage)) as events:
            async for event in events:
                yield event


async def _events(
    room: AsyncDecoding, fields: Mapping[str, Any], usage: Usage
) -> AsyncGenerator[pb.GenerateResponse, None]:
    try:
        stream: Any = room.generate(**fields)
    except (TypeError, ValueError) as error:  # a value that no field of the contract holds
        message = (
            str(error).replace("generate(): ", "").replace("generate() has no field", "There is no field")
        )
        param = next((name for name in ("nest", "stop_token_ids", "logit_bias") if name in message), None)
        raise ApiError(400, message, code="invalid_value", param=param) from None
    async with stream:
        async for event in stream:
            usage.take(event)
            yield event


def _room_left(error: InvalidArgument) -> int:
    """Tokens that a prompt leaves of the context; 0 where the error is another."""
    if error.reason != Reason.PROMPT_TOO_LONG:
        return 0
    return int(error.metadata["context_length"]) - int(error.metadata["prompt_tokens"])


async def collected(
    room: AsyncDecoding, fields: Mapping[str, Any], usage: Usage, default_tokens: int = 0
) -> Generated:
    """A call to its end; parameters as for :func:`events_of`."""
    made = Generated([Sequence() for _ in range(fields.get("n", 1))])
    async with aclosing(events_of(room, fields, usage, default_tokens)) as events:
        async for event in events:
            made.take(event)
    return made


async def model_of(rooms: Rooms, asked: str | None, default: str) -> str:
    """The model that a request means.

    Parameters
    ----------
    rooms
        Of the caller.
    asked
        The request's own; None where it names none.
    default
        PALIMPSEST_GATEWAY_MODEL.

    Raises
    ------
    ApiError
        400: it names none, and there are several to choose from, or none.
    """
    if asked or default:
        return asked or default
    found = [model.model_id for model in (await rooms.models.list_models(page_size=10)).models]
    if len(found) == 1:
        return found[0]
    names = ", ".join(found) or "none is registered yet (`palimpsest models register`)"
    raise bad("model", f"model is required; there are: {names}.", "missing_required_parameter")


def new_id(prefix: str) -> str:
    """An id for an answer, such as ``cmpl-...``."""
    return f"{prefix}-{uuid.uuid4().hex}"
