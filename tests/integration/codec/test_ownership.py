"""A context is its principal's: to everybody else it does not exist."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from palimpsest import AsyncClient
from palimpsest.api.codec.v1 import codec_pb2 as pb
from palimpsest.errors import FailedPrecondition, NotFound, Reason
from palimpsest.jobs import JobContext, WorkerResources
from palimpsest.kv import CalibrationProfile, KeyValues, encode
from palimpsest.progress import NullProgress
from services.codec import CodecRoom
from services.codec.profiles import ProfileCatalogue
from services.codec.tasks import create_context
from services.registry import RegistryRoom
from tests.integration.jobs.guarded import serving, write_tokens

IDS = list(range(3, 43))
CODING = {"chunk_tokens": 16, "levels": ["lossless"]}
# "ann:" and "a/b" would run into other keys if names went into them as they are.
SCOPES = {name: ["codec.*", "artifacts.*"] for name in ("ann", "bob", "ann:contexts", "a/b")}


@pytest.fixture(scope="module")
async def clients(resources: WorkerResources, tmp_path_factory) -> AsyncIterator[dict[str, AsyncClient]]:
    tokens = tmp_path_factory.mktemp("tokens") / "tokens.json"
    write_tokens(tokens, SCOPES)
    async with serving(resources.settings, [RegistryRoom(), CodecRoom()], tokens) as served:
        clients = {name: AsyncClient(served.listen, token=name) for name in SCOPES}
        yield clients
        for client in clients.values():
            await client.close()


def cache(seed: int = 0) -> KeyValues:
    torch.manual_seed(seed)
    return KeyValues(torch.randn(2, 2, len(IDS), 16), torch.randn(2, 2, len(IDS), 16), 0)


async def put(client: AsyncClient, context_id: str, ids: list[int] = IDS, seed: int = 0) -> pb.Context:
    return await client.codec.put(
        model="tiny", tokens=ids, kv=cache(seed), context_id=context_id, coding=CODING
    )


async def load(client: AsyncClient, name: str) -> Any:
    return await client.codec.load(name)


CALLS: dict[str, Callable[[AsyncClient, str], Any]] = {
    "get": lambda client, name: client.codec.get_context(name=name),
    "delete": lambda client, name: client.codec.delete_context(name=name),
    "load": load,
    "estimate": lambda client, name: client.codec.estimate(name=name, settings={"bandwidth": 1e6}),
}


@pytest.mark.parametrize("call", CALLS)
async def test_another_callers_context_is_not_found_in_the_same_words(clients, call):
    await put(clients["ann"], "anns")
    with pytest.raises(NotFound) as theirs:
        await CALLS[call](clients["bob"], "contexts/anns")
    with pytest.raises(NotFound) as none:
        await CALLS[call](clients["bob"], "contexts/none")
    assert theirs.value.reason == none.value.reason == Reason.CONTEXT_NOT_FOUND
    assert str(theirs.value).replace("anns", "none") == str(none.value)
    assert (await clients["ann"].codec.get_context(name="contexts/anns")).token_count == len(IDS)


async def test_lists_and_look_ups_show_the_callers_own(clients):
    await put(clients["ann"], "listed")
    for name in ("bob", "ann:contexts", "a/b"):
        assert (await clients[name].codec.list_contexts()).contexts == []
        found = await clients[name].codec.look_up_context(model="tiny", tokens={"ids": IDS})
        assert found == pb.LookUpContextResponse(token_count=len(IDS))
    assert "contexts/listed" in {c.name for c in (await clients["ann"].codec.list_contexts()).contexts}
    found = await clients["ann"].codec.look_up_context(model="tiny", tokens={"ids": IDS})
    assert found.matched_tokens == len(IDS)


async def test_the_same_id_and_the_same_text_of_two_callers_are_two_contexts(clients):
    other = [id_ + 1 for id_ in IDS]
    assert (await put(clients["ann"], "mine")).name == "contexts/mine"
    assert (await put(clients["bob"], "mine", other, seed=1)).name == "contexts/mine"  # another text
    await put(clients["a/b"], "mine")  # the same text
    for name, ids in {"ann": IDS, "bob": other, "a/b": IDS}.items():
        assert (await clients[name].codec.load("contexts/mine")).token_ids.tolist() == ids
    await clients["ann"].codec.delete_context(name="contexts/mine")
    for name, seed in {"bob": 1, "a/b": 0}.items():
        loaded = await clients[name].codec.load("contexts/mine")
        torch.testing.assert_close(loaded.kv.keys, cache(seed).keys)


async def test_a_jobs_context_is_its_callers(clients, resources):
    request = pb.CreateContextRequest(model="tiny", context_id="by-a-job", tokens={"ids": IDS}, coding=CODING)
    create_context(request, JobContext("job", "ann", 1, NullProgress(), resources))
    assert (await clients["ann"].codec.get_context(name="contexts/by-a-job")).token_count == len(IDS)
    with pytest.raises(NotFound):
        await clients["bob"].codec.get_context(name="contexts/by-a-job")


async def test_a_load_does_not_open_before_its_caller_is_known(clients):
    await put(clients["ann"], "opened")
    async with clients["bob"].codec.receive("contexts/opened") as events:
        with pytest.raises(NotFound):
            await anext(aiter(events))


async def test_the_parts_of_a_context_are_read_by_its_caller_alone(clients):
    made = await put(clients["ann"], "parts", seed=7)
    for digest in (made.tokens_artifact, made.chunks[0].encodings[0].artifact):
        assert await clients["ann"].artifacts.read_bytes(digest)
        with pytest.raises(NotFound):
            await clients["bob"].artifacts.read_bytes(digest)


async def test_a_models_profile_is_read_by_every_caller(clients, resources, profile):
    for name in ("ann", "bob"):
        assert await clients[name].artifacts.read_bytes(profile.artifact)
    holders = resources.artifacts.references.holders
    holders.forget(profile.artifact)  # as a version without holders stored it
    with pytest.raises(NotFound):
        await clients["ann"].artifacts.read_bytes(profile.artifact)
    ProfileCatalogue(resources.redis, resources.settings.redis_prefix, resources.artifacts).share()
    assert await clients["ann"].artifacts.read_bytes(profile.artifact)


async def test_a_chunk_cannot_ask_whether_somebody_has_an_artefact(clients, resources, profile):
    """A chunk's header names its profile by digest, and the caller writes the header."""
    stored = CalibrationProfile.from_bytes(resources.artifacts.read_bytes(profile.artifact))
    own = replace(stored, means=tuple(mean + 0.01 for mean in stored.means))
    data = encode(cache(), levels=["balanced"], codec="transform", profile=own)["balanced"]
    with pytest.raises(FailedPrecondition) as missing:
        await clients["bob"].codec.decode(data)
    assert (await clients["ann"].artifacts.upload(own.to_bytes())).digest == own.id
    assert (await clients["ann"].codec.decode(data)).tokens == len(IDS)
    with pytest.raises(FailedPrecondition) as theirs:
        await clients["bob"].codec.decode(data)
    assert theirs.value.reason == missing.value.reason == Reason.KV_PROFILE_MISSING
    assert str(theirs.value) == str(missing.value)


async def test_contexts_of_before_they_had_owners_are_those_of_local(resources, create):
    """Where a server without a tokens file finds them; another version of this code wrote them under these keys."""
    made = create(tokens={"ids": IDS}, coding=CODING, context_id="old")
    prefix = resources.settings.redis_prefix
    assert resources.redis.zscore(f"{prefix}contexts", "old") is not None
    assert resources.redis.exists(f"{prefix}context:old")
    owners = resources.artifacts.references.owners(made.tokens_artifact)
    assert [owner for owner in owners if owner.startswith("context/old/")]
