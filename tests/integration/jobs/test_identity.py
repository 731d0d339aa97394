"""Jobs call other rooms for the caller they work for, and reach what that caller reaches."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from google.protobuf.struct_pb2 import Struct

from palimpsest import AsyncClient
from palimpsest.client.corpora import NewDocument
from palimpsest.client.peers import client_for, peer_targets
from palimpsest.errors import (
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    Reason,
    Unauthenticated,
)
from palimpsest.jobs import JobContext, JobSpec, JobStore, WorkerResources
from palimpsest.jobs.handlers import Handler
from palimpsest.jobs.record import JobRecord
from palimpsest.jobs.runner import Runner
from palimpsest.models import register
from palimpsest.progress import NullProgress
from palimpsest.rpc.channel import ON_BEHALF_OF
from palimpsest.settings import Settings
from services.datastore import DatastoreRoom
from services.registry import RegistryRoom
from tests.integration.jobs.guarded import serving, write_tokens

SCOPES = {
    "ann": ["datastore.*"],
    "bob": ["datastore.*"],
    "reader": ["datastore.read"],
    "root": ["*"],
    "jobs": ["impersonate"],
}
FIELDS = {"corpus_id": "mine", "model": "tiny", "encoder": "hashed-words"}


def search(request: Struct, job: JobContext) -> Struct:
    """What a job of a room to come does: read the caller's corpus, in the datastore's own server."""
    with client_for(job.principal, job.resources.settings) as peers:
        if request["delete"]:
            peers.datastore.delete_corpus(name="corpora/mine")
        found = peers.datastore.search(corpora=["corpora/mine"], query="secret")
    result = Struct()
    result.update({"texts": [hit.text.decode() for hit in found.hits]})
    return result


class Bench:
    """A server with a corpus of ann's, and jobs run here and now by the worker's own code."""

    def __init__(self, settings: Settings, tokens: Path) -> None:
        self.settings, self.tokens = settings, tokens
        self.redis = redis.Redis.from_url(settings.redis_url)
        self.store = JobStore(self.redis, settings)

    def client(self, name: str, **fields: Any) -> AsyncClient:
        return AsyncClient(self.settings.listen, token=name, **fields)

    async def job(self, principal: str, *, delete: bool = False, **changes: object) -> JobRecord:
        worker = self.settings.model_copy(update={"service_token": "jobs", **changes})
        request = Struct()
        request.update({"delete": delete})
        record = self.store.submit(JobSpec(kind="test.search", request=request, principal=principal))
        resources = WorkerResources(worker, self.redis)
        runner = Runner(
            self.store, resources, lambda _kind: Handler(search, Struct, Struct, 600.0), "here:1:a"
        )
        await asyncio.to_thread(runner.run, record.id)
        return self.store.get(record.id)


@pytest.fixture
def bench_of(settings: Settings, tmp_path: Path, tiny_model: Path) -> Callable[[Path | None], Any]:
    with redis.Redis.from_url(settings.redis_url) as connection:
        resources = WorkerResources(settings, connection)
        register("tiny", str(tiny_model), resources.models, settings, NullProgress())
    return lambda tokens: serving(settings, [RegistryRoom(), DatastoreRoom()], tokens)


@pytest.fixture
async def bench(bench_of, tmp_path: Path) -> AsyncIterator[Bench]:
    tokens = tmp_path / "tokens.json"
    write_tokens(tokens, SCOPES)
    async with bench_of(tokens) as settings:
        bench = Bench(settings, tokens)
        async with bench.client("ann") as ann:
            await ann.datastore.create_corpus(**FIELDS)
            async with ann.datastore.add("corpora/mine", [NewDocument("a", "a secret of ann's")]) as answers:
                assert [answer.version async for answer in answers] == [1]
        yield bench
        bench.redis.close()


async def test_a_job_reaches_its_callers_corpus_and_no_other(bench: Bench):
    (text,) = (await bench.job("ann")).response_message()["texts"]
    assert "secret of ann" in text
    refused = await bench.job("bob")
    assert refused.state == "FAILED"
    assert isinstance(refused.error, NotFound)


async def test_a_job_may_do_no_more_than_its_caller(bench: Bench):
    """The service token's own scopes do not count, and the caller's do, even where the corpus is missing."""
    for principal, reason in {"reader": Reason.SCOPE_MISSING, "nobody": Reason.IMPERSONATION_REFUSED}.items():
        error = (await bench.job(principal, delete=True)).error
        assert isinstance(error, PermissionDenied)
        assert error.reason == reason
    async with bench.client("jobs") as service:
        with pytest.raises(PermissionDenied):
            await service.datastore.list_corpora()


async def test_a_revoked_or_expired_callers_jobs_reach_nothing(bench: Bench):
    write_tokens(bench.tokens, SCOPES, ann=1)
    error = (await bench.job("ann")).error
    assert error is not None
    assert error.reason == Reason.IMPERSONATION_REFUSED
    write_tokens(bench.tokens, {name: scopes for name, scopes in SCOPES.items() if name != "ann"})
    error = (await bench.job("ann")).error
    assert error is not None
    assert error.reason == Reason.IMPERSONATION_REFUSED


@pytest.mark.parametrize("name", ["bob", "reader", "root"])
async def test_an_ordinary_token_may_not_act_for_another(bench: Bench, name: str):
    """Not even one that reaches everything: no wildcard grants it."""
    async with bench.client(name, metadata=((ON_BEHALF_OF, b"ann"),)) as client:
        for call in (client.datastore.list_corpora(), client.datastore.get_corpus(name="corpora/mine")):
            with pytest.raises(PermissionDenied) as refused:
                await call
            assert refused.value.reason == Reason.IMPERSONATION_REFUSED
            assert refused.value.metadata == {"principal": "ann"}


async def test_a_claim_without_a_token_or_with_a_wrong_one_is_no_identity(bench: Bench):
    for token in (None, "guess"):
        async with AsyncClient(
            bench.settings.listen, token=token, metadata=((ON_BEHALF_OF, b"ann"),)
        ) as client:
            with pytest.raises(Unauthenticated):
                await client.datastore.list_corpora()


async def test_a_worker_without_a_service_token_says_what_is_missing(bench: Bench):
    error = (await bench.job("ann", service_token="")).error
    assert isinstance(error, FailedPrecondition)
    assert error.reason == Reason.SERVICE_TOKEN_MISSING


async def test_the_audit_log_names_the_caller_and_who_acted(bench: Bench):
    assert (await bench.job("ann", delete=True)).error is not None  # the search after the deletion
    lines = (bench.settings.state_dir / "audit.jsonl").read_text().splitlines()
    assert '"principal": "ann", "actor": "jobs"' in lines[-1]


async def test_without_tokens_a_job_works_for_the_only_caller(bench_of):
    async with bench_of(None) as settings:
        async with AsyncClient(settings.listen) as client:
            await client.datastore.create_corpus(**FIELDS)
            async with client.datastore.add("corpora/mine", [NewDocument("a", "a secret")]) as answers:
                assert [answer.version async for answer in answers] == [1]
        bench = Bench(settings, Path())
        (text,) = (await bench.job("local", service_token="")).response_message()["texts"]
        assert "secret" in text
        error = (await bench.job("ann", service_token="")).error
        assert error is not None
        assert error.reason == Reason.IMPERSONATION_REFUSED
        bench.redis.close()


def test_a_token_does_not_leave_the_machine_in_plain_text(settings: Settings):
    away = settings.model_copy(update={"service_token": "jobs", "peers": "10.0.0.1:7600"})
    with pytest.raises(FailedPrecondition) as refused:
        client_for("ann", away)
    assert refused.value.reason == Reason.LISTENER_INSECURE
    client_for("ann", away.model_copy(update={"insecure": True})).close()


def test_rooms_are_here_unless_said_otherwise(settings: Settings):
    here = settings.model_copy(update={"listen": "0.0.0.0:7"})
    assert peer_targets(here) == {"": "127.0.0.1:7"}
    assert peer_targets(here.model_copy(update={"peers": "codec=c:1"})) == {"": "127.0.0.1:7", "codec": "c:1"}
    assert peer_targets(here.model_copy(update={"peers": "r:1,codec=c:1"})) == {"": "r:1", "codec": "c:1"}
