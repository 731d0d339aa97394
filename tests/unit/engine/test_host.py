"""Which model makes room for another: one that nobody uses, else one that is used in the background alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from palimpsest.engine import EngineHost, Request
from palimpsest.engine import host as engine_host
from palimpsest.errors import ResourceExhausted
from palimpsest.models import ModelCatalogue, register
from palimpsest.progress import NullProgress
from palimpsest.settings import Settings
from tests.tiny import write_tiny_model

from .collecting import Collector


@pytest.fixture
def engines(settings: Settings, tiny_model: Path, tmp_path: Path) -> Iterator[EngineHost]:
    """A host with room for one of two models."""
    quick = settings.model_copy(
        update={"dtype": "float32", "device": "cpu", "engine_cache_bytes": 1 << 20, "engine_max_models": 1}
    )
    models = ModelCatalogue(redis.Redis.from_url(quick.redis_url), quick.redis_prefix)
    register("one", str(tiny_model), models, quick, NullProgress())
    register("two", str(write_tiny_model(tmp_path / "two", seed=1)), models, quick, NullProgress())
    host = EngineHost(quick, models)
    yield host
    host.close()


def test_a_model_used_in_the_background_makes_room_for_a_caller_and_its_requests_are_told(engines):
    batch = engines.acquire("one", background=True)
    line = Collector()
    batch.engine.submit(Request([5] * 20, max_tokens=400, ignore_eos=True, background=True), line.deliver)
    caller = engines.acquire("two")
    assert line.wait().error.reason == "SHUTTING_DOWN"
    engines.release(batch, background=True)
    assert engines.hosted() == [caller]
    assert (caller.users, caller.background_users) == (1, 0)


def test_the_background_waits_until_a_model_has_not_been_used_for_a_while(engines, monkeypatch):
    caller = engines.acquire("one")
    with pytest.raises(ResourceExhausted):
        engines.acquire("two", background=True)
    engines.release(caller)
    with pytest.raises(ResourceExhausted) as waits:
        engines.acquire("two", background=True)
    assert (waits.value.reason, waits.value.retry_after) == ("ENGINE_MEMORY_FULL", 5.0)
    monkeypatch.setattr(engine_host, "BACKGROUND_WAITS", 0.0)
    assert engines.acquire("two", background=True).record.model_id == "two"
    with pytest.raises(ResourceExhausted):  # nor does one batch put out another
        engines.acquire("one", background=True)


def test_both_kinds_use_one_copy_of_a_model(engines):
    caller, batch = engines.acquire("one"), engines.acquire("one", background=True)
    assert caller is batch
    engines.release(caller)
    assert (batch.users, batch.background_users) == (0, 1)
