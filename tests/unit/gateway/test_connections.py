"""Streams to callers: the first error is an answer of its own, later ones are events, none is sent unasked."""

import asyncio
import json

import pytest
from starlette.requests import ClientDisconnect

from palimpsest.errors import Reason, ResourceExhausted
from services.gateway.connections import EventStream, all_of, merged
from services.gateway.errors import ApiError

SCOPE = {"type": "http", "path": "/v1/completions"}


class Caller:
    """The other end of a connection."""

    def __init__(self, room: int = 1000) -> None:
        self.sent: list[dict] = []
        self.left, self.full = asyncio.Event(), asyncio.Event()
        self._room = room

    async def receive(self) -> dict:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict) -> None:
        if len(self.sent) >= self._room:
            self.full.set()
            await asyncio.Event().wait()
        self.sent.append(message)

    @property
    def events(self) -> list[str]:
        return [m["body"].decode().removeprefix("data: ").strip() for m in self.sent[1:] if m["body"]]


class Source:
    """Events that count themselves, and say when they were closed."""

    def __init__(self, error: Exception | None = None, at: int = 3) -> None:
        self.given, self.closed = 0, False
        self._error, self._at = error, at

    async def events(self):
        try:
            for number in range(10_000):
                if self._error is not None and number == self._at:
                    raise self._error
                self.given += 1
                yield {"number": number}
                await asyncio.sleep(0)
        finally:
            self.closed = True


BUSY = ResourceExhausted(Reason.ENGINE_QUEUE_FULL, "Wait.", retry_after=2.5)


async def test_what_fails_before_the_first_event_is_raised_for_an_answer_of_its_own():
    caller, source = Caller(), Source(BUSY, at=0)
    with pytest.raises(ResourceExhausted):
        await EventStream(source.events())(SCOPE, caller.receive, caller.send)
    assert not caller.sent
    assert source.closed


@pytest.mark.parametrize("error", [BUSY, ApiError(400, "No.", code="x"), ZeroDivisionError("secret")])
async def test_what_fails_later_is_an_event_and_the_end(error):
    caller, source = Caller(), Source(error)
    await EventStream(source.events())(SCOPE, caller.receive, caller.send)
    *before, last = caller.events
    assert [json.loads(each) for each in before] == [{"number": n} for n in range(3)]
    assert set(json.loads(last)["error"]) == {"message", "type", "param", "code"}
    assert "secret" not in last
    assert caller.sent[-1]["more_body"] is False


async def test_a_caller_that_takes_nothing_is_sent_nothing():
    caller, source = Caller(room=4), Source()
    serving = asyncio.create_task(EventStream(source.events())(SCOPE, caller.receive, caller.send))
    await caller.full.wait()
    assert source.given == 4  # three were sent, and one waits
    caller.left.set()
    await serving
    assert source.closed


async def test_a_caller_that_leaves_closes_the_source_while_it_waits():
    closed = asyncio.Event()

    async def waits():
        try:
            await asyncio.Event().wait()
            yield {}
        finally:
            closed.set()

    caller = Caller()
    caller.left.set()
    await EventStream(waits())(SCOPE, caller.receive, caller.send)
    assert closed.is_set()
    assert not caller.sent


async def test_of_several_works_the_first_failure_ends_the_others():
    ended = []

    async def waits(name):
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    async def fails():
        await asyncio.sleep(0)
        raise ClientDisconnect

    with pytest.raises(ClientDisconnect):
        await all_of([waits("a"), fails(), waits("b"), waits("never began")], at_once=3)
    assert sorted(ended)[:2] == ["a", "b"]


async def test_results_keep_their_order_and_no_more_run_at_once_than_may():
    running = most = 0

    async def work(number):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return number

    assert await all_of([work(n) for n in range(20)], at_once=4) == list(range(20))
    assert most == 4


async def test_sources_are_merged_and_all_closed():
    sources = [Source(ApiError(400, "No."), at=2) if n == 1 else Source() for n in range(3)]
    got = []

    async def take():
        async for event in merged([source.events() for source in sources], at_once=3):
            got.append(event)

    with pytest.raises(ApiError):
        await take()
    assert got
    assert all(source.closed for source in sources)
