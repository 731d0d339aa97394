"""``POST /v1/chat/completions``: a reply to a conversation, whole or as a stream."""

import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.client.aio.decoding import AsyncDecoding
from services.gateway.bodies import read
from services.gateway.calls import rooms_of, settings_of
from services.gateway.connections import EventStream, while_connected
from services.gateway.errors import bad, unsupported
from services.gateway.text.annotations import annotations_of, quotes_of
from services.gateway.text.fields import TextFields
from services.gateway.text.generation import REASONS, Sequence, Usage, collected, events_of, model_of, new_id
from services.gateway.text.messages import Message, Tool, chat_of
from services.gateway.text.pieces import shown
from services.gateway.text.tool_calls import CallParser, Found
from services.gateway.text.tool_choice import ToolChoice, tools_for

Json = dict[str, Any]


class ChatBody(TextFields):
    """The fields of a request. Without a maximum a reply has PALIMPSEST_GATEWAY_CHAT_MAX_TOKENS, or what fits."""

    messages: list[Message]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    logprobs: bool = False
    top_logprobs: int | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool = True
    store: Literal[False] = False
    modalities: list[Literal["text"]] | None = None

    def most_tokens(self) -> int | None:
        """Most tokens of the reply; None where the request says nothing of it."""
        given = {each for each in (self.max_tokens, self.max_completion_tokens) if each is not None}
        if len(given) > 1:
            raise bad("max_tokens", "max_tokens and max_completion_tokens differ; send one of them.")
        most = given.pop() if given else None
        if most is not None and most < 1:
            name = "max_tokens" if self.max_tokens is not None else "max_completion_tokens"
            raise bad(name, f"{name} is {most}; it has to be at least 1.")
        return most

    def alternatives(self) -> int | None:
        """Most probable tokens told of each position; None: no probabilities."""
        if self.top_logprobs is not None and not self.logprobs:
            raise bad("top_logprobs", "top_logprobs goes with logprobs: true.")
        if self.top_logprobs is not None and self.top_logprobs < 0:
            raise bad("top_logprobs", f"top_logprobs is {self.top_logprobs}; it has to be 0 or more.")
        return (self.top_logprobs or 0) if self.logprobs else None


@dataclass
class Chat:
    """One request: what it asks of the room, and what its answer counts."""

    room: AsyncDecoding
    body: ChatBody
    fields: Json
    form: "pb.Tokenizer.ToolCalls.ValueType"
    default_tokens: int
    usage: Usage = field(default_factory=Usage)

    def __post_init__(self) -> None:
        self._created, self._id = int(time.time()), new_id("chatcmpl")

    def _head(self, kind: str) -> Json:
        return {"id": self._id, "object": kind, "created": self._created, "model": self.fields["model"]}

    async def answer(self) -> Json:
        """The whole answer."""
        made = await collected(self.room, self.fields, self.usage, self.default_tokens)
        choices = [self._choice(at, each) for at, each in enumerate(made.sequences)]
        head = {**self._head("chat.completion"), "system_fingerprint": made.fingerprint}
        return {**head, "choices": choices, "usage": self.usage.body}

    def _choice(self, index: int, made: Sequence) -> Json:
        parser = CallParser(self.form)
        first, last = parser.push(made.text), parser.finish()
        text, calls = first.text + last.text, first.calls + last.calls
        message: Json = {"role": "assistant", "content": text or (None if calls else ""), "refusal": None}
        if calls:
            message["tool_calls"] = [call.body for call in calls]
        if self.body.corpora:
            message["annotations"] = annotations_of(made.text, made.spans.values())
        return {
            "index": index,
            "message": message,
            "logprobs": logprobs_of(made.tokens) if self.body.logprobs else None,
            "finish_reason": "tool_calls" if calls else made.reason,
            "stop_reason": made.end.stop or None,
        }

    async def chunks(self) -> AsyncGenerator[Json, None]:
        """The answer in parts."""
        counted = self.body.stream_options is not None and self.body.stream_options.include_usage
        head = self._head("chat.completion.chunk")
        every = {**head, "usage": None} if counted else head
        parsers = [CallParser(self.form) for _ in range(self.body.n)]
        calls = [0] * self.body.n
        events = events_of(self.room, self.fields, self.usage, self.default_tokens)
        async with aclosing(events):
            async for event in events:
                for choice in self._parts(event, parsers, calls):
                    yield {**every, "choices": [choice]}
        if counted:
            yield {**head, "choices": [], "usage": self.usage.body}

    def _parts(self, event: pb.GenerateResponse, parsers: list[CallParser], calls: list[int]) -> list[Json]:
        """What one event adds to the choices."""
        kind = event.WhichOneof("event")
        if kind == "started":
            return [_part(at, {"role": "assistant", "content": ""}) for at in range(self.body.n)]
        if kind == "delta":
            index = event.delta.index
            told = logprobs_of(event.delta.logprobs) if self.body.logprobs else None
            parts = _deltas(index, parsers[index].push(event.delta.text), calls)
            if told is not None:
                parts = parts or [_part(index, {})]
                parts[0]["logprobs"] = told
            return parts
        if kind == "finished":
            end = event.finished
            parts = _deltas(end.index, parsers[end.index].finish(), calls)
            reason = "tool_calls" if calls[end.index] else REASONS.get(end.reason, "stop")
            return [*parts, {**_part(end.index, {}, reason), "stop_reason": end.stop or None}]
        quotes = quotes_of(event)
        return [_part(quotes.index, {"annotations": quotes.annotations})] if quotes else []


def _part(index: int, delta: Json, reason: str | None = None) -> Json:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}


def _deltas(index: int, found: Found, calls: list[int]) -> list[Json]:
    parts = [_part(index, {"content": found.text})] if found.text else []
    for call in found.calls:
        parts.append(_part(index, {"tool_calls": [{"index": calls[index], **call.body}]}))
        calls[index] += 1
    return parts


def logprobs_of(tokens: Iterable[pb.TokenLogprob]) -> Json:
    """Log-probabilities of a reply's tokens, that of the one that ended it included."""
    return {
        "content": [{**_token(t), "top_logprobs": [_token(e) for e in t.top]} for t in tokens],
        "refusal": None,
    }


def _token(token: pb.TokenLogprob) -> Json:
    return {"token": shown(token.bytes), "logprob": token.logprob, "bytes": list(token.bytes)}


async def chat_completions(request: Request) -> ASGIApp:
    """``POST /v1/chat/completions``."""
    body = await read(request, ChatBody)
    rooms, settings = rooms_of(request), settings_of(request)
    fields: Json = {**body.request(), "chat": chat_of(body.messages)}
    most, alternatives = body.most_tokens(), body.alternatives()
    if most is not None:
        fields["max_tokens"] = most
    if alternatives is not None:
        fields["logprobs"] = alternatives
    fields["model"] = await model_of(rooms, body.model, settings.model)
    told = await tools_for(rooms.decoding, fields["model"], body)
    if told.structured is not None and fields.get("structured"):
        raise unsupported("tool_choice", "A call that is asked for does not go with response_format.")
    fields |= told.fields(fields)
    work = Chat(rooms.decoding, body, fields, told.form, 0 if most is not None else settings.chat_max_tokens)
    if body.stream:
        return EventStream(work.chunks())
    return JSONResponse(await while_connected(request, work.answer()))
