"""Every call and every noun with two callers: what is another's answers as what is not there, word for word."""

import re
import uuid
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch

from deploy.access import methods
from palimpsest import AsyncClient
from palimpsest.api.artifacts.v1 import artifacts_pb2
from palimpsest.api.datastore.v1 import datastore_pb2
from palimpsest.api.options.v1 import options_pb2
from palimpsest.client.corpora import NewDocument
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.errors import InvalidArgument
from palimpsest.jobs import JobContext, JobStore, WorkerResources
from palimpsest.kv import KeyValues
from palimpsest.progress import NullProgress
from palimpsest.rpc.auth import access_of
from services.codec import CodecRoom
from services.datastore import DatastoreRoom, tasks
from services.decoding import DecodingRoom
from services.grafting import GraftingRoom
from services.registry import RegistryRoom
from services.unlearning import UnlearningRoom
from tests.integration.jobs.guarded import serving, write_tokens
from tests.rooms import room_settings, worker_resources

from .probes import ELSEWHERE, MAKES, PROBES, outcome

ROOMS = [
    "artifacts.*",
    "codec.*",
    "datastore.*",
    "decoding.*",
    "grafting.*",
    "jobs.*",
    "models.*",
    "unlearning.*",
]
SCOPES = {"ann": ROOMS, "bob": ROOMS, "root": ["*"]}
PROMPT = "it was a secret of ann's that nobody else should know, and " * 4
UNSENT = "it was nobody that should know, a secret of ann's else and " * 4
"""The same words, and so as many tokens, in an order in which nobody has sent them."""


@dataclass(frozen=True)
class Nouns:
    """One of each thing that a call can name."""

    corpus_id: str
    taken_id: str
    context_id: str
    ngrams: str
    artifact: str
    spare_artifact: str
    upload: str
    job: str
    ended_job: str
    removal: str
    prompt: str

    def places(self, own_artifact: str, fingerprint: str) -> dict[str, str]:
        """What goes where in the requests of ``PROBES``."""
        named = {name.replace("_", " "): value for name, value in asdict(self).items()}
        named |= {"corpus": f"corpora/{self.corpus_id}", "context": f"contexts/{self.context_id}"}
        return named | {
            "own artifact": own_artifact,
            "fingerprint": fingerprint,
            "fresh": f"u{uuid.uuid4().hex}",
        }


NONE = Nouns(
    corpus_id="zz-none",
    taken_id="zz-none-too",
    context_id="zz-none",
    ngrams="ngramStores/zz-none",
    artifact="sha256:" + "0" * 64,
    spare_artifact="sha256:" + "1" * 64,
    upload="zz-none",
    job="operations/00000000",
    ended_job="operations/00000001",
    removal="removalRequests/zz-none",
    prompt=UNSENT,
)


def filled(template: Any, places: dict[str, str]) -> Any:
    """A request with somebody's things in their places."""
    match template:
        case dict():
            return {name: filled(value, places) for name, value in template.items()}
        case list():
            return [filled(value, places) for value in template]
        case str():
            return re.sub(r"<([a-z ]+)>", lambda found: places[found[1]], template)
    return template


def normal(said: tuple[str, ...], nouns: Nouns) -> tuple[str, ...]:
    """An outcome without the names that the request had."""
    names = sorted(asdict(nouns).values(), key=len, reverse=True)
    short = [name.rpartition("/")[2].removeprefix("sha256:") for name in names]
    pattern = "|".join(map(re.escape, [*names, *short]))
    drawn = r"u[0-9a-f]{32}|seed: \d+"
    return tuple(re.sub(pattern, "NAME", re.sub(drawn, "DRAWN", part)) for part in said)


class Walk:
    """The server, what ann keeps there, and what bob has of his own."""

    def __init__(self, channel: grpc.aio.Channel, hers: Nouns, own: dict[str, str], fingerprint: str) -> None:
        self.channel, self.hers, self.own, self.fingerprint = channel, hers, own, fingerprint

    async def says(self, method: str, template: Any, caller: str, nouns: Nouns) -> tuple[str, ...]:
        places = nouns.places(self.own[caller], self.fingerprint)
        said = normal(await outcome(self.channel, method, filled(template, places), caller), nouns)
        return said[:1] if said[0] == "OK" and method.endswith(MAKES) else said


@pytest.fixture(scope="module")
def resources(valkey: ValkeyServer, tmp_path_factory, tiny_model: Path) -> WorkerResources:
    settings = room_settings(valkey, tmp_path_factory.mktemp("walk"), engine_cache_bytes=8 << 20)
    return worker_resources(settings, tiny=tiny_model)


@pytest.fixture(scope="module")
async def walk(resources: WorkerResources, tmp_path_factory) -> AsyncIterator[Walk]:
    tokens = tmp_path_factory.mktemp("tokens") / "tokens.json"
    write_tokens(tokens, SCOPES)
    rooms = [RegistryRoom(), CodecRoom(), DatastoreRoom(), DecodingRoom(), GraftingRoom(), UnlearningRoom()]
    async with (
        serving(resources.settings, rooms, tokens) as served,
        AsyncClient(served.listen, token="ann") as ann,
        AsyncClient(served.listen, token="bob") as bob,
        grpc.aio.insecure_channel(served.listen) as channel,
    ):
        hers = await keep(ann, resources)
        text = b"a text of one's own " * 20
        own = {
            name: (await client.artifacts.upload(text)).digest
            for name, client in (("ann", ann), ("bob", bob))
        }
        yield Walk(channel, hers, own | {"root": own["ann"]}, resources.models.get("tiny").fingerprint)


async def keep(ann: AsyncClient, resources: WorkerResources) -> Nouns:
    """Store one of each."""
    for corpus in ("zz-hers", "zz-hers-too"):
        await ann.datastore.create_corpus(corpus_id=corpus, model="tiny", encoder="hashed-words")
    async with ann.datastore.add(
        "corpora/zz-hers", [NewDocument("letter", "it was a secret of ann's")]
    ) as answers:
        assert [answer.version async for answer in answers] == [1]
    artifact = (await ann.artifacts.upload(b"a secret of ann's " * 40)).digest
    spare = (await ann.artifacts.upload(b"another secret of ann's")).digest
    build = datastore_pb2.BuildNgramStoreRequest(store_id="zz-hers", text_artifact=artifact, model="tiny")
    tasks.build_ngram_store(build, JobContext("job", "ann", 1, NullProgress(), resources))

    async def half():
        yield artifacts_pb2.WriteArtifactRequest(open={"upload_id": "zz-hers"})
        yield artifacts_pb2.WriteArtifactRequest(chunk={"offset": 0, "data": b"half"})

    with pytest.raises(InvalidArgument):
        await ann.artifacts.write_artifact(half())
    ids = (await ann.codec.look_up_context(model="tiny", text=PROMPT)).token_count
    torch.manual_seed(0)
    made = await ann.codec.put(
        model="tiny", tokens=await tokens_of(resources), context_id="zz-hers",
        kv=KeyValues(torch.randn(2, 2, ids, 16), torch.randn(2, 2, ids, 16), 0),
        coding={"chunk_tokens": 16, "levels": ["lossless"]},
    )  # fmt: skip
    assert made.token_count == ids
    batch = {"model": "tiny", "input": artifact}
    jobs = [await ann.decoding.generate_batch(**batch, max_tokens=count) for count in (1, 2)]
    JobStore(resources.redis, resources.settings).cancel(jobs[1].name.removeprefix("operations/"))
    forget = await ann.artifacts.upload(b'{"id": "letter", "text": "it was a secret of ann"}')
    plan = {"model": "tiny", "new_model": "zz-clean", "algorithm": "ga", "forget": forget.digest}
    await ann.unlearning.create_removal_request(plan=plan, removal_id="zz-hers", hold=True)
    for salt in ("", "drafts"):
        async for _ in ann.decoding.generate(model="tiny", prompt=PROMPT, max_tokens=1, cache_salt=salt):
            pass
    return Nouns(
        corpus_id="zz-hers",
        taken_id="zz-hers-too",
        context_id="zz-hers",
        ngrams="ngramStores/zz-hers",
        artifact=artifact,
        spare_artifact=spare,
        upload="zz-hers",
        job=jobs[0].name,
        ended_job=jobs[1].name,
        removal="removalRequests/zz-hers",
        prompt=PROMPT,
    )


async def tokens_of(resources: WorkerResources) -> list[int]:
    from palimpsest.lm import encode_text
    from palimpsest.models.tokenizers import load_tokenizer

    return encode_text(load_tokenizer(resources.models.get("tiny").path), PROMPT, "text")


def named(method: str) -> str:
    service, _, name = method.rpartition("/")
    return f"{service.rpartition('.')[2]}/{name}"


METHODS = {named(method): method for method in methods()}


def test_every_method_says_whose_things_it_reaches_and_is_tried():
    for name, method in METHODS.items():
        access = access_of(method)
        assert access.scope, f"{name} names no scope in its access option"
        assert access.ownership in options_pb2.Ownership.values()[1:], f"{name} names no ownership"
        if access.ownership == options_pb2.OWNERSHIP_CALLER:
            assert name in PROBES or name in ELSEWHERE, f"no request of {name} is tried with two callers"
    assert {*PROBES, *ELSEWHERE} <= set(METHODS)
    for path, function in ELSEWHERE.values():
        assert f"def {function}(" in Path(path).read_text()


def test_methods_that_reach_everybodys_things_are_an_administrators():
    everybodys = [m for m in METHODS.values() if access_of(m).ownership == options_pb2.OWNERSHIP_EVERYBODY]
    assert everybodys
    assert all(access_of(method).scope.startswith("admin.") for method in everybodys)
    assert {access_of(method).admin_scope for method in METHODS.values()} == {
        "", "admin.artifacts", "admin.engines", "admin.jobs",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "number"), [(name, number) for name, probes in PROBES.items() for number in range(len(probes))]
)
async def test_what_is_anothers_answers_as_what_is_not_there(walk: Walk, name: str, number: int):
    method, template = METHODS[name], PROBES[name][number]
    theirs = await walk.says(method, template, "bob", walk.hers)
    missing = await walk.says(method, template, "bob", NONE)
    assert theirs == missing
    assert "secret" not in " ".join(theirs).replace("NAME", "")
    if access_of(method).admin_scope and name not in ENDS:
        assert await walk.says(method, template, "root", walk.hers) != missing
    hers = await walk.says(method, template, "ann", walk.hers)
    assert hers != theirs, "the request shows nothing of its owner's"
    assert hers[0] != "NOT_FOUND"


ENDS = {name for name in PROBES if name.rpartition("/")[2].startswith(("Delete", "Cancel"))}


async def test_what_engines_do_for_all_is_an_administrators_to_see(walk: Walk):
    method = METHODS["DecodingService/GetEngineInfo"]
    for caller, shown in {"bob": False, "root": True}.items():
        _, said = await outcome(walk.channel, method, [{}], caller)
        assert ("prefill_tokens" in said) is shown
