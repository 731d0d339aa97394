"""A batch in the decoding room, beside its callers: same bytes, their tokens, and whatever becomes of the room."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from palimpsest import AsyncClient, Client, errors
from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.engine import Engine, EngineHost
from palimpsest.errors import Cancelled, FailedPrecondition, NotFound, Reason, Unavailable
from palimpsest.jobs import WorkerResources
from palimpsest.models import register
from palimpsest.progress import NullProgress
from services.decoding import DecodingRoom, tasks
from services.decoding.metrics import EngineCollector
from services.registry import RegistryRoom
from tests.integration.decoding.batches import Watched, resources_of, run
from tests.rooms import serving_aside
from tests.tiny import write_tiny_model
from tests.waiting import until

SAMPLED = {"sampling": pb.SamplingConfig(temperature=1.3, top_p=0.9), "logprobs": 2, "n": 2}
LINES: list[object] = [
    {"id": n, "prompt": f"the fox {n % 5} " * (1 + n % 7), "max_tokens": 3 + n % 20} for n in range(40)
]
LINES[7] = {"id": "chat", "messages": [{"role": "user", "content": "hi"}], "stop": ["e"]}
LINES[11] = b"not JSON\n"
LINES[13] = {"prompt": "x", "max_tokens": 5000}
LINES[17] = {"id": "seeded", "prompt": "dog", "seed": 2**64 - 1, "temperature": 0, "n": 1, "logprobs": -1}


def at(line: int, act) -> Watched:
    """Progress that does something once, when so many lines are done."""
    left = [act]

    def stop(done: int) -> None:
        if done == line and left:
            left.pop()()

    return Watched(stop=stop)


@pytest.fixture
def expected(own) -> bytes:
    """What the worker's own engine makes of the lines."""
    return run(own, LINES, **SAMPLED)[1]


class Held:
    """A room on a thread of this process, its engines, and what its workers have."""

    def __init__(self, own: WorkerResources, opened: ExitStack, **changes: object) -> None:
        room = DecodingRoom()
        settings = own.settings.model_copy(update={"batch_engine": "decoding", **changes})
        self.settings = opened.enter_context(serving_aside(settings, RegistryRoom(), room))
        self.resources = resources_of(self.settings)
        self.host: EngineHost = room._host

    @property
    def engine(self) -> Engine:
        return next(hosted.engine for hosted in self.host.hosted())


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def held(own, opened) -> Held:
    return Held(own, opened)


def test_a_batch_in_the_room_has_the_bytes_of_one_in_the_workers_own_engine(served, expected):
    assert run(served, LINES, **SAMPLED)[1] == expected


def test_a_caller_has_its_tokens_beside_a_batch_and_both_have_their_bytes(held, expected):
    alone = []

    def texts(client: Client) -> list[str]:
        asked = {"model": "tiny", "prompt": "the lazy dog", "max_tokens": 60, "ignore_eos": True, "n": 2}
        events = client.decoding.generate(**asked, sampling={"temperature": 1.0, "seed": 3})
        return sorted(e.finished.text for e in events if e.HasField("finished"))

    with Client(held.settings.listen) as client:
        alone += texts(client)
        beside: list[str] = []
        progress = at(3, lambda: beside.extend(texts(client)))
        assert run(held.resources, LINES, progress, **SAMPLED)[1] == expected
    assert beside == alone
    assert held.engine.background == (0, 0, 0)


def test_a_room_that_is_restarted_is_waited_for(own, expected):
    with ExitStack() as first, ExitStack() as second:
        settings = own.settings.model_copy(update={"batch_engine": "decoding"})
        calling = first.enter_context(serving_aside(settings, RegistryRoom(), DecodingRoom()))

        def restart() -> None:
            first.close()
            second.enter_context(serving_aside(calling, RegistryRoom(), DecodingRoom()))

        thread = threading.Thread(target=restart)
        response, data = run(resources_of(calling), LINES, at(5, thread.start), **SAMPLED)
        thread.join()
    assert data == expected
    assert (response.succeeded, response.failed) == (38, 2)


def test_a_room_that_stays_away_ends_the_batch_with_what_was_done_kept(own, monkeypatch):
    monkeypatch.setattr(tasks, "_SERVER_AWAY_SECONDS", 0.0)
    with ExitStack() as running:
        settings = own.settings.model_copy(update={"batch_engine": "decoding"})
        calling = running.enter_context(serving_aside(settings, RegistryRoom(), DecodingRoom()))
        lines = [{"prompt": f"the {n}", "max_tokens": 200} for n in range(200)]
        progress = at(5, running.close)
        with pytest.raises(Unavailable):
            run(resources_of(calling), lines, progress)
    state = progress.resume()
    assert state is not None
    assert state["lines"] >= 5


def test_a_room_that_is_full_is_waited_for(own, opened, expected):
    held = Held(own, opened, engine_max_running=2, engine_queue_limit=2)
    wide = held.settings.model_copy(update={"engine_max_running": 32, "engine_queue_limit": 128})
    assert run(resources_of(wide), LINES, **SAMPLED)[1] == expected


def test_lines_that_lose_their_memory_to_a_caller_are_generated_again(own, opened):
    lines: list[object] = [{"prompt": f"the {n}", "max_tokens": 1 if n < 2 else 300} for n in range(14)]
    expected = run(own, lines, logprobs=1)[1]
    held = Held(own, opened, engine_cache_bytes=13 << 17)

    def want_everything() -> None:
        with Client(held.settings.listen) as client:
            asked = {"model": "tiny", "prompt": "the", "max_tokens": 40, "ignore_eos": True, "n": 50}
            assert sum(e.HasField("finished") for e in client.decoding.generate(**asked)) == 50

    assert run(held.resources, lines, at(2, want_everything), logprobs=1)[1] == expected
    assert held.engine.counters.background_interrupted > 0


def test_a_cancelled_batch_leaves_the_room_before_the_next_step(held):
    def cancel() -> None:
        raise Cancelled(Reason.JOB_CANCELLED, "cancelled")

    lines: list[object] = [{"prompt": "the", "max_tokens": 1}]
    lines += [{"prompt": f"the {n}", "max_tokens": 500} for n in range(6)]
    with pytest.raises(Cancelled):
        run(held.resources, lines, at(1, cancel), n=4)
    until(lambda: held.engine.idle)
    assert held.engine.background == (0, 0, 0)
    assert held.engine.counters.generated_tokens < 6 * 500 * 4
    assert held.engine.cache_bytes_used == held.engine.model.pool.used == 0


def test_a_model_that_is_replaced_ends_its_batch(served, tmp_path: Path):
    other = write_tiny_model(tmp_path / "other", seed=7)

    def replace_model() -> None:
        served.models.delete("tiny")
        register("tiny", str(other), served.models, served.settings, NullProgress())

    lines: list[object] = [{"prompt": f"the {n}", "max_tokens": 100} for n in range(150)]
    with pytest.raises((FailedPrecondition, NotFound)) as replaced:
        run(served, lines, at(1, replace_model))
    assert replaced.value.reason in ("MODEL_CHANGED", "MODEL_NOT_FOUND")  # the latter in between


def test_background_sequences_are_counted_apart(held):
    seen: dict[str, float] = {}

    def look() -> None:
        (streams,) = (
            m for m in EngineCollector(held.host).collect() if m.name == "palimpsest_engine_streams"
        )
        seen.update({sample.labels["state"]: sample.value for sample in streams.samples})
        raise Cancelled(Reason.JOB_CANCELLED, "cancelled")

    lines: list[object] = [{"prompt": f"the {n}", "max_tokens": 1 if n < 3 else 400} for n in range(30)]
    with pytest.raises(Cancelled):
        run(held.resources, lines, at(3, look))
    assert seen["background running"] > 1
    assert seen["background paused"] == seen["running"] == 0


async def test_background_calls_have_places_of_their_own(own, tmp_path: Path):
    settings = own.settings.model_copy(
        update={"engine_max_running": 1, "engine_queue_limit": 1, "caller_share": 0.5}
    )
    long = {"model": "tiny", "prompt": "the", "max_tokens": 400, "ignore_eos": True}
    with serving_aside(settings, RegistryRoom(), DecodingRoom()) as calling:
        async with AsyncClient(calling.listen) as client:
            asked = {**long, "priority": "BACKGROUND"}
            async with client.decoding.generate(**asked) as background:
                assert (await anext(background)).HasField("started")
                with pytest.raises(errors.ResourceExhausted) as full:
                    await anext(client.decoding.generate(**asked))
                assert full.value.reason == "QUOTA_EXCEEDED"
                found = [e async for e in client.decoding.generate(**{**long, "max_tokens": 5})]
                assert found[-1].finished.generated_tokens == 5
                tokens = [len(e.delta.token_ids) async for e in background if e.HasField("delta")]
                assert (sum(tokens), len(tokens) <= 3) == (400, True)  # not one by one


async def test_quotations_in_the_background_are_refused(own):
    with serving_aside(own.settings, RegistryRoom(), DecodingRoom()) as calling:
        async with AsyncClient(calling.listen) as client:
            with pytest.raises(errors.InvalidArgument) as refused:
                await anext(
                    client.decoding.generate(
                        model="tiny", prompt="the", priority="BACKGROUND", context="contexts/one"
                    )
                )
    assert refused.value.reason == "BACKGROUND_UNSUPPORTED"
