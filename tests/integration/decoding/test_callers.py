"""What one caller sends does not show in what another is answered."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from palimpsest import AsyncClient
from palimpsest.api.codec.v1 import codec_pb2
from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.engine import worker_host
from palimpsest.errors import NotFound
from palimpsest.jobs import JobContext, WorkerResources
from palimpsest.progress import NullProgress
from palimpsest.settings import Settings
from services.codec import CodecRoom
from services.codec.tasks import create_context
from services.decoding import DecodingRoom, tasks
from services.registry import RegistryRoom
from tests.integration.jobs.guarded import serving, write_tokens
from tests.rooms import room_settings, worker_resources

TEXT = "the quick brown fox jumps over the lazy dog, and " * 12 + "then"
SCOPES = {"ann": ["decoding.*", "codec.*"], "bob": ["decoding.*", "codec.*"], "root": ["*"]}


@pytest.fixture(scope="module")
def resources(
    valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path
) -> WorkerResources:
    settings = room_settings(
        valkey, tmp_path_factory.mktemp("callers"), engine_cache_bytes=8 << 20, batch_engine="worker"
    )
    return worker_resources(settings, tiny=tiny_model)


async def clients_of(settings: Settings, tokens: Path) -> AsyncIterator[dict[str, AsyncClient]]:
    write_tokens(tokens, SCOPES)
    async with serving(settings, [RegistryRoom(), CodecRoom(), DecodingRoom()], tokens) as served:
        clients = {name: AsyncClient(served.listen, token=name) for name in SCOPES}
        yield clients
        for client in clients.values():
            await client.close()


@pytest.fixture
async def clients(resources: WorkerResources, tmp_path: Path) -> AsyncIterator[dict[str, AsyncClient]]:
    async for clients in clients_of(resources.settings, tmp_path / "tokens.json"):
        yield clients


@pytest.fixture
async def trusting(resources: WorkerResources, tmp_path: Path) -> AsyncIterator[dict[str, AsyncClient]]:
    shared = resources.settings.model_copy(update={"engine_share_prefixes": True})
    async for clients in clients_of(shared, tmp_path / "tokens.json"):
        yield clients


async def cached(client: AsyncClient, **fields) -> int:
    found = [e async for e in client.decoding.generate(model="tiny", max_tokens=2, ignore_eos=True, **fields)]
    return next(e.started.cached_tokens for e in found if e.HasField("started"))


async def cached_by_drafts(client: AsyncClient, **fields) -> int:
    asked = {"model": "tiny", "max_tokens": 2, "settings": {"strategy": "STRATEGY_BEAM"}, **fields}
    found = [e async for e in client.decoding.draft(**asked)]
    return next(e.started.cached_tokens for e in found if e.HasField("started"))


@pytest.mark.parametrize("count", [cached, cached_by_drafts])
async def test_a_prompt_of_another_caller_is_not_in_the_cache(clients, count):
    assert await count(clients["ann"], prompt=TEXT) == 0
    assert await count(clients["bob"], prompt=TEXT) == 0
    first, again = await count(clients["bob"], prompt=TEXT), await count(clients["ann"], prompt=TEXT)
    assert first == again > 100


async def test_a_caller_keeps_its_own_users_apart(clients):
    assert await cached(clients["ann"], prompt=TEXT, cache_salt="one user") == 0
    assert await cached(clients["ann"], prompt=TEXT, cache_salt="another") == 0
    assert await cached(clients["bob"], prompt=TEXT, cache_salt="one user") == 0
    assert await cached(clients["ann"], prompt=TEXT, cache_salt="one user") > 100
    assert await cached_by_drafts(clients["ann"], prompt=TEXT, cache_salt="one user") > 100
    assert await cached(clients["ann"], prompt=TEXT) == 0


async def test_an_installation_whose_callers_trust_each_other_may_share(trusting):
    assert await cached(trusting["ann"], prompt=TEXT) == 0
    assert await cached(trusting["bob"], prompt=TEXT) > 100
    assert await cached(trusting["bob"], prompt=TEXT, cache_salt="private") == 0
    assert await cached(trusting["ann"], prompt=TEXT, cache_salt="private") > 100


async def test_a_context_and_what_was_loaded_of_it_are_its_callers(clients, resources):
    request = codec_pb2.CreateContextRequest(
        model="tiny", context_id="mine", text=TEXT, coding={"chunk_tokens": 64, "levels": ["lossless"]}
    )
    for name in ("ann", "bob"):
        create_context(request, JobContext("job", name, 1, NullProgress(), resources))
    fields = {"context": "contexts/mine", "prompt": " the fox", "context_load": {"loss_budget": 1.0}}
    assert await cached(clients["ann"], **fields) == 0
    assert await cached(clients["bob"], **fields) == 0
    assert await cached(clients["ann"], **fields) > 100
    await clients["ann"].codec.delete_context(name="contexts/mine")
    with pytest.raises(NotFound) as gone:
        await cached(clients["ann"], **fields)
    assert gone.value.reason == "CONTEXT_NOT_FOUND"
    assert await cached(clients["bob"], **fields) > 100


def test_a_batch_finds_the_prompts_of_its_own_caller_alone(resources):
    def batch(principal: str) -> int:
        digest = resources.artifacts.put_bytes(json.dumps({"prompt": TEXT}).encode()).digest
        request = pb.GenerateBatchRequest(model="tiny", input=digest, max_tokens=2)
        job = JobContext("job", principal, 1, NullProgress(), resources)
        with worker_host(job).using("tiny") as hosted:
            before = hosted.engine.counters.prefill_tokens_shared
            tasks.generate_batch(request, job)
            return hosted.engine.counters.prefill_tokens_shared - before

    assert [batch("ann"), batch("bob")] == [0, 0]
    assert batch("ann") > 100


async def test_an_ordinary_caller_learns_nothing_of_the_load(clients):
    await cached(clients["ann"], prompt=TEXT)
    of_all = ("running", "waiting", "cache_bytes_used", "prefill_tokens", "generated_tokens", "decode_steps")
    (shown,) = (await clients["bob"].decoding.get_engine_info()).models
    assert {name: getattr(shown, name) for name in of_all} == dict.fromkeys(of_all, 0)
    assert (shown.model, shown.cache_bytes_limit > 0) == ("tiny", True)
    (known,) = (await clients["root"].decoding.get_engine_info()).models
    assert known.prefill_tokens > 100
    assert known.generated_tokens == 2
