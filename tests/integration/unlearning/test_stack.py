"""A request on a real stack: secrets are taught to a model, removed from it and from the stores, and looked for."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from palimpsest import Client
from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.certificates import verify
from palimpsest.client.aio.jobs import metadata_of
from palimpsest.client.corpora import NewDocument
from palimpsest.embedded.stack import Stack
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.errors import Cancelled, NotFound
from palimpsest.settings import Settings
from services.unlearning.absence import search_folder
from services.unlearning.absence_in_redis import search_redis
from services.unlearning.patterns import Secrets
from tests.integration.unlearning import data

LEARNING = {"steps": 80, "learning_rate": 5e-3, "batch": 8}


@dataclass(frozen=True)
class Installation:
    client: Client
    settings: Settings


@pytest.fixture(scope="module")
def installation(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    settings = Settings(
        state_dir=tmp_path_factory.mktemp("unlearning-stack"),
        redis_url=valkey.url,
        redis_prefix=f"test-{uuid.uuid4().hex[:12]}:",
        listen="127.0.0.1:0",
        threads=1,
        drain_seconds=1.0,
        dtype="float32",
    )
    with Stack(settings) as running, Client(running.target) as client:
        yield Installation(client, settings)


@pytest.fixture(scope="module")
def done(installation: Installation, tiny_model: Path) -> tuple[pb.RemovalRequest, dict[str, Any]]:
    """A request that was carried out, and its plan."""
    client = installation.client
    client.models.register_model(model_id="base", source=str(tiny_model)).result(120)
    forget = client.artifacts.upload(data.FORGET).digest
    retain = client.artifacts.upload(data.RETAIN).digest
    texts = {
        "known": [*map(data.secret, range(6)), *map(data.kept, range(6))],
        "never": [*map(data.kept, range(6))],
    }
    for name, rows in texts.items():
        lines = client.artifacts.upload(data.lines(*({"text": row["text"]} for row in rows)))
        client.models.fine_tune(base="base", model_id=name, train=lines.digest, **LEARNING).result(300)
        if name == "known":
            teaching = lines.digest
    client.datastore.create_corpus(corpus_id="vaults", model="base", encoder="hashed-words")
    rows = [NewDocument(each["id"], each["text"]) for each in texts["known"]]
    with client.datastore.add("corpora/vaults", rows) as answers:
        assert all(not answer.HasField("error") for answer in answers)
    client.datastore.build_index(corpus="corpora/vaults").result(120)
    client.datastore.create_corpus(corpus_id="cellar", model="base", encoder="hashed-words")
    with client.datastore.add("corpora/cellar", rows[:1]) as answers:
        assert [answer.version for answer in answers] == [1]
    client.datastore.build_ngram_store(store_id="vaults", model="base", text_artifact=teaching).result(120)
    secret = data.secret(0)["text"]
    client.codec.create_context(
        model="base", text=secret, context_id="vault", coding={"codec": "generic"}
    ).result(120)
    plan: dict[str, Any] = {
        "model": "known",
        "new_model": "clean",
        "forget": forget,
        "retain": retain,
        "holdout": client.artifacts.upload(data.HOLDOUT).digest,
        "references": ["never"],
        "algorithm": "ga_gdr",
        "training": {"steps": 30, "learning_rate": 1e-3, "batch": 8},
        "parameters": {"alpha": "3"},
        "corpora": [
            {"corpus": "corpora/vaults", "documents": [f"secret-{n}" for n in range(6)]},
            {"corpus": "corpora/cellar", "documents": ["secret-0", "never-there"]},
        ],
        "ngram_stores": ["ngramStores/vaults"],
        "contexts": ["contexts/vault"],
        "delete_forget_set": True,
    }
    result = client.unlearning.create_removal_request(plan=plan, removal_id="vaults").result(300)
    # What the user taught the model with is the user's own, and so is the user's to delete. The job that made the
    # context had its text in its record, and went with the context.
    left = client.jobs.list().operations
    assert "codec.create_context" not in {metadata_of(operation).kind for operation in left}
    for operation in left:
        client.jobs.delete(operation.name)
    client.artifacts.delete_artifact(digest=teaching)
    return result, plan


def test_it_is_forgotten(installation, done):
    request, _ = done
    assert request.state == pb.REMOVAL_STATE_SUCCEEDED
    values = {(m.metric, m.model): m.value for m in request.result.measurements}
    assert values["verbmem", "before"] > values["verbmem", "never"] + 30
    assert values["verbmem", "after"] < values["verbmem", "before"] - 20
    assert request.result.verdict in pb.Verdict.values()[1:]
    assert request.result.forget_set_deleted
    manifest = installation.client.artifacts.read_bytes(request.result.forget.manifest)
    assert manifest.count(b"\n") == 1 + 8


def test_the_stores_report_absence(installation, done):
    request, _ = done
    evidence = {each.name: each for each in request.result.stores}
    assert evidence["corpora/vaults"].deleted == 6
    assert evidence["corpora/vaults"].shingles > 0
    assert (evidence["corpora/cellar"].deleted, evidence["corpora/cellar"].missing) == (1, 1)
    assert evidence["ngramStores/vaults"].deleted == evidence["contexts/vault"].deleted == 1
    assert all(each.absent for each in evidence.values())
    left = installation.client.datastore.get_corpus(name="corpora/vaults")
    assert left.document_count == 6
    with pytest.raises(NotFound):
        installation.client.codec.get_context(name="contexts/vault")


def test_no_secret_is_in_any_file_or_key(installation, done):
    secrets = Secrets(data.SECRETS)
    files = search_folder(installation.settings.state_dir, secrets)
    assert not files.found, files.found
    client = redis.Redis.from_url(installation.settings.redis_url)
    keys = search_redis(client, secrets)
    assert not [each for each in keys.found if installation.settings.redis_prefix in each.place]


def test_the_certificate_verifies_and_no_changed_byte_does(installation, done, tmp_path):
    found = installation.client.unlearning.get_certificate(name="removalRequests/vaults")
    log = b"".join(part.data for part in installation.client.unlearning.read_audit_log())
    files = {
        "certificate": found.certificate,
        "log": log,
        "key": found.public_key,
        "revoked": found.revocations,
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)

    def valid() -> bool:
        checks = verify(
            tmp_path / "certificate", tmp_path / "log", [tmp_path / "key"], datetime.now(UTC),
            revoked=tmp_path / "revoked",
        )  # fmt: skip
        return all(check.ok for check in checks)

    assert valid()
    for name in ("certificate", "log"):
        for place in range(10, len(files[name]), max(1, len(files[name]) // 7)):
            changed = bytearray(files[name])
            changed[place] ^= 1
            (tmp_path / name).write_bytes(changed)
            assert not valid(), f"byte {place} of {name}"
        (tmp_path / name).write_bytes(files[name])
    assert valid()


def test_a_running_request_is_cancelled(installation, done):
    client = installation.client
    forget = client.artifacts.upload(data.FORGET).digest
    fields = {"forget": forget, "model": "known", "new_model": "never-made", "algorithm": "ga"}
    training = {"steps": 100000, "batch": 1, "learning_rate": 1e-6}
    job = client.unlearning.create_removal_request(plan={**fields, "training": training}, removal_id="long")
    for seen in job:
        if seen.stage.startswith("training,"):
            job.cancel()
            break
    with pytest.raises(Cancelled):
        job.result(60)
    assert (
        client.unlearning.get_removal_request(name="removalRequests/long").state == pb.REMOVAL_STATE_CANCELLED
    )
    with pytest.raises(NotFound):
        client.models.get_model(model_id="never-made")
