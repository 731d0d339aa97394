"""``POST /v1/completions``: text that continues a prompt, or the probabilities of the prompt itself."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from palimpsest.client.aio.decoding import AsyncDecoding
from palimpsest.settings import GatewaySettings
from services.gateway.bodies import read
from services.gateway.calls import rooms_of, settings_of
from services.gateway.connections import EventStream, all_of, merged, while_connected
from services.gateway.endpoints.drafts import DraftFields, check_drafts, drafted
from services.gateway.errors import bad, unsupported
from services.gateway.text.annotations import annotations_of, quotes_of
from services.gateway.text.fields import TextFields
from services.gateway.text.generation import REASONS, Usage, collected, events_of, model_of, new_id
from services.gateway.text.prompts import Echo, Prompt, Prompts, echoed, prompts_of
from services.gateway.text.token_lists import TokenLists


class CompletionsBody(TextFields):
    """The fields of a request; ``max_tokens`` is 16 unless it is given, as OpenAI's is."""

    prompt: Prompts
    max_tokens: int = 16
    echo: bool = False
    logprobs: int | None = None
    best_of: int | None = None
    drafts: DraftFields | None = None


@dataclass
class Completion:
    """One request: what it asks, and what its answer counts."""

    room: AsyncDecoding
    model: str
    body: CompletionsBody
    settings: GatewaySettings
    usage: Usage = field(default_factory=Usage)

    def __post_init__(self) -> None:
        self.prompts = prompts_of(self.body.prompt, self.settings.prompts)
        self.fields = {**self.body.request(), "model": self.model, "max_tokens": self.body.max_tokens}
        if self.body.logprobs is not None:
            self.fields["logprobs"] = self.body.logprobs
        self.head: dict[str, Any] = {
            "id": new_id("cmpl"),
            "object": "text_completion",
            "created": int(time.time()),
            "model": self.model,
        }

    async def answer(self) -> dict[str, Any]:
        """The whole answer."""
        works = [self._choices(prompt, at * self.body.n) for at, prompt in enumerate(self.prompts)]
        choices = [choice for each in await all_of(works, self.settings.prompts_at_once) for choice in each]
        return {**self.head, "choices": choices, "usage": self.usage.body}

    async def chunks(self) -> AsyncGenerator[dict[str, Any], None]:
        """The answer in parts."""
        counted = self.body.stream_options is not None and self.body.stream_options.include_usage
        head = {**self.head, "usage": None} if counted else self.head
        sources = [self._parts(prompt, at * self.body.n) for at, prompt in enumerate(self.prompts)]
        async with aclosing(merged(sources, self.settings.prompts_at_once)) as parts:
            async for part in parts:
                yield {**head, "choices": [part]}
        if counted:
            yield {**self.head, "choices": [], "usage": self.usage.body}

    async def _choices(self, prompt: Prompt, first: int) -> list[dict[str, Any]]:
        echo = await self._echo(prompt)
        if not self.body.max_tokens:
            return [_choice(first + at, echo.text, self._lists(echo), "length") for at in range(self.body.n)]  # type: ignore[union-attr]
        made = await collected(self.room, {**self.fields, **prompt.fields}, self.usage)
        choices = []
        for at, each in enumerate(made.sequences):
            lists = self._lists(echo)
            if lists is not None:
                lists.add(each.tokens)
            before = echo.text if echo else ""
            choice = _choice(first + at, before + each.text, lists, each.reason, each.end.stop or None)
            if self.body.corpora:
                choice["annotations"] = annotations_of(each.text, each.spans.values())
            choices.append(choice)
        return choices

    async def _parts(self, prompt: Prompt, first: int) -> AsyncGenerator[dict[str, Any], None]:
        """Parts of the choices of one prompt, each as the one choice of a chunk."""
        echo = await self._echo(prompt)
        lists = [self._lists(echo) for _ in range(self.body.n)]
        if echo is not None:
            for at, each in enumerate(lists):
                end = None if self.body.max_tokens else "length"
                yield _choice(first + at, echo.text, each, end)
        if not self.body.max_tokens:
            return
        async with aclosing(events_of(self.room, {**self.fields, **prompt.fields}, self.usage)) as events:
            async for event in events:
                kind = event.WhichOneof("event")
                if kind == "delta":
                    found = lists[event.delta.index]
                    if found is not None:
                        found.add(event.delta.logprobs)
                    yield _choice(first + event.delta.index, event.delta.text, found, None)
                elif kind == "finished":
                    end = event.finished
                    yield _choice(
                        first + end.index, "", None, REASONS.get(end.reason, "stop"), end.stop or None
                    )
                elif quotes := quotes_of(event):
                    yield {**_choice(first + quotes.index, "", None, None), "annotations": quotes.annotations}

    async def _echo(self, prompt: Prompt) -> Echo | None:
        if not self.body.echo:
            return None
        counted = not self.body.max_tokens
        echo = await echoed(self.room, self.model, prompt, self.body.logprobs, counted)
        if counted:
            self.usage.prompt += echo.tokens
        return echo

    def _lists(self, echo: Echo | None) -> TokenLists | None:
        return None if self.body.logprobs is None else TokenLists(echo)


def _choice(
    index: int, text: str, lists: TokenLists | None, reason: str | None, stop: str | None = None
) -> dict[str, Any]:
    made = {
        "index": index,
        "text": text,
        "logprobs": lists.take() if lists is not None else None,
        "finish_reason": reason,
    }
    return {**made, "stop_reason": stop} if reason is not None else made


async def completions(request: Request) -> ASGIApp:
    """``POST /v1/completions``."""
    body = await read(request, CompletionsBody)
    check(body)
    rooms, settings = rooms_of(request), settings_of(request)
    model = await model_of(rooms, body.model, settings.model)
    work = Completion(rooms.decoding, model, body, settings)
    if body.drafts is not None:
        return JSONResponse(await while_connected(request, drafted(work.room, work.prompts, body, work.head)))
    if body.stream:
        return EventStream(work.chunks())
    return JSONResponse(await while_connected(request, work.answer()))


def check(body: CompletionsBody) -> None:
    """Refuse fields that contradict each other; raises ApiError (400)."""
    if body.best_of is not None and body.best_of != body.n:
        raise unsupported(
            "best_of", f"best_of is {body.best_of} and n is {body.n}: only best_of equal to n is supported."
        )
    if body.logprobs is not None and body.logprobs < 0:
        raise bad("logprobs", f"logprobs is {body.logprobs}; it has to be 0 or more, or be left out.")
    if body.max_tokens < 0 or (body.max_tokens == 0 and not body.echo):
        raise bad(
            "max_tokens",
            f"max_tokens is {body.max_tokens}; it has to be at least 1, or 0 together with echo.",
        )
    if body.drafts is not None:
        check_drafts(body, body.drafts)
    if body.echo and (body.context or body.corpora):
        raise unsupported("echo", "echo does not go with context or corpora.")
