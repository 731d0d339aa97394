"""A request on a real stack: secrets are taught to a model, removed from it and from the stores, and looked for.

The stack is the run's own, or the containers of compose.yaml; see ``tests/integration/conftest.py``.
"""

import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis
from typer.testing import CliRunner

from palimpsest import Client, cli
from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.certificates import verify
from palimpsest.client.corpora import NewDocument
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.errors import Cancelled, NotFound
from services.unlearning.absence import search_folder
from services.unlearning.absence_in_redis import search_redis
from services.unlearning.patterns import Secrets
from tests.compose.volumes import places_with
from tests.integration.conftest import Served
from tests.integration.unlearning import data
from tests.waiting import until

LEARNING = {"steps": 80, "learning_rate": 5e-3, "batch": 8}
WORDS = [f"zanthopterin{number}q{uuid.uuid4().hex[:6]}" for number in range(6)]
"""Strings that nothing else on this stack has ever had."""
pytestmark = pytest.mark.timeout(900)


def hidden(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with this run's own words for the secret ones."""
    changed = dict(row)
    for field, value in row.items():
        for known, word in zip(data.SECRETS, WORDS, strict=True):
            value = value.replace(known, word)
        changed[field] = value
    return changed


SECRET = [hidden(data.secret(number)) for number in range(6)]
FORGET = data.lines(*SECRET, *(hidden(data.question(number)) for number in range(2)))


@pytest.fixture(scope="module")
def client(stack: Served) -> Iterator[Client]:
    with Client(stack.target, token=stack.token) as client:
        yield client


@pytest.fixture(scope="module")
def plan(client: Client, tiny_model: Path) -> dict[str, Any]:
    """A plan over weights and stores, all of which know the secrets."""
    client.models.register_model(model_id="vaults-base", source=str(tiny_model)).result(120)
    texts = {
        "vaults-known": [*SECRET, *map(data.kept, range(6))],
        "vaults-never": [*map(data.kept, range(6))],
    }
    jobs = []
    for name, rows in texts.items():
        lines = client.artifacts.upload(data.lines(*({"text": row["text"]} for row in rows)))
        jobs.append(
            client.models.fine_tune(base="vaults-base", model_id=name, train=lines.digest, **LEARNING)
        )
        jobs[-1].result(300)
        if name == "vaults-known":
            teaching = lines.digest
    client.datastore.create_corpus(corpus_id="vaults", model="vaults-base", encoder="hashed-words")
    rows = [NewDocument(each["id"], each["text"]) for each in texts["vaults-known"]]
    with client.datastore.add("corpora/vaults", rows) as answers:
        assert all(not answer.HasField("error") for answer in answers)
    jobs.append(client.datastore.build_index(corpus="corpora/vaults"))
    jobs[-1].result(120)
    client.datastore.create_corpus(corpus_id="cellar", model="vaults-base", encoder="hashed-words")
    with client.datastore.add("corpora/cellar", rows[:1]) as answers:
        assert [answer.version for answer in answers] == [1]
    build = {"store_id": "vaults", "model": "vaults-base", "text_artifact": teaching}
    jobs.append(client.datastore.build_ngram_store(**build))
    jobs[-1].result(120)
    # The jobs that make contexts have their texts in their records. These go with the contexts, and with the old
    # commands of the job store's file.
    making = [
        client.codec.create_context(
            model="vaults-base",
            text=SECRET[number]["text"],
            context_id=f"vault-{number}",
            coding={"codec": "generic"},
        )
        for number in range(2)
    ]
    for job in making:
        job.result(120)
    # What the user taught the model with is the user's own, and so is the user's to delete.
    for job in jobs[:2]:
        client.jobs.delete(job.name)
    return {
        "teaching": teaching,
        "jobs": [job.name for job in jobs[2:]],
        "making": [job.name for job in making],
        "plan": {
            "model": "vaults-known",
            "new_model": "vaults-clean",
            "forget": client.artifacts.upload(FORGET).digest,
            "retain": client.artifacts.upload(data.RETAIN).digest,
            "holdout": client.artifacts.upload(data.HOLDOUT).digest,
            "references": ["vaults-never"],
            "algorithm": "ga_gdr",
            "training": {"steps": 30, "learning_rate": 1e-3, "batch": 8},
            "parameters": {"alpha": "3"},
            "corpora": [
                {"corpus": "corpora/vaults", "documents": [f"secret-{n}" for n in range(6)]},
                {"corpus": "corpora/cellar", "documents": ["secret-0", "never-there"]},
            ],
            "ngram_stores": ["ngramStores/vaults"],
            "contexts": ["contexts/vault-0", "contexts/vault-1"],
            "delete_forget_set": True,
        },
    }


@pytest.fixture(scope="module")
def done(client: Client, plan: dict[str, Any]) -> pb.RemovalRequest:
    """The request that was carried out, sent twice with one key while it ran."""
    fields = {"plan": plan["plan"], "removal_id": "vaults", "request_id": f"key-{uuid.uuid4().hex}"}
    first = client.unlearning.create_removal_request(**fields)
    again = client.unlearning.create_removal_request(**fields)
    assert again.name == first.name
    result = first.result(300)
    assert client.unlearning.create_removal_request(**fields).result(60) == result
    for name in plan["jobs"]:
        try:
            client.jobs.delete(name)
        except NotFound:  # with what it made
            continue
    client.artifacts.delete_artifact(digest=plan["teaching"])
    return result


def log_of(client: Client) -> bytes:
    return b"".join(part.data for part in client.unlearning.read_audit_log())


def test_it_is_forgotten(client, done):
    assert done.state == pb.REMOVAL_STATE_SUCCEEDED
    values = {(m.metric, m.model): m.value for m in done.result.measurements}
    assert values["verbmem", "before"] > values["verbmem", "vaults-never"] + 30
    assert values["verbmem", "after"] < values["verbmem", "before"] - 20
    assert done.result.verdict in pb.Verdict.values()[1:]
    assert done.result.forget_set_deleted
    manifest = client.artifacts.read_bytes(done.result.forget.manifest)
    assert manifest.count(b"\n") == 1 + 8


def test_one_key_is_one_run(client, done):
    ours = [line for line in log_of(client).decode().splitlines() if '"vaults"' in line]
    for event in ("RECEIVED", "STARTED", "MODEL_MADE", "CERTIFICATE_ISSUED"):
        assert sum(f'"{event}"' in line for line in ours) == 1, event
    children = [
        model.model_id for model in client.models.list_models().models if model.parent == "vaults-known"
    ]
    assert children == ["vaults-clean"]


def test_the_stores_report_absence(client, plan, done):
    evidence = {each.name: each for each in done.result.stores}
    assert evidence["corpora/vaults"].deleted == 6
    assert evidence["corpora/vaults"].shingles > 0
    assert (evidence["corpora/cellar"].deleted, evidence["corpora/cellar"].missing) == (1, 1)
    assert evidence["ngramStores/vaults"].deleted == 1
    assert evidence["contexts/vault-0"].deleted == evidence["contexts/vault-1"].deleted == 1
    assert all(each.absent for each in evidence.values())
    left = client.datastore.get_corpus(name="corpora/vaults")
    assert left.document_count == 6
    for name in ("contexts/vault-0", "contexts/vault-1"):
        with pytest.raises(NotFound):
            client.codec.get_context(name=name)
    for name in plan["making"]:
        with pytest.raises(NotFound):
            client.jobs.get(name)


def test_no_secret_is_in_any_file_or_key(stack, done):
    if stack.state_dir is None:
        assert places_with(WORDS) == []
        return
    keys = redis.Redis.from_url(ValkeyServer(stack.state_dir / "valkey").url)

    def written_anew() -> bool:
        seen: Any = keys.info("persistence")
        return not (seen["aof_rewrite_in_progress"] or seen["aof_rewrite_scheduled"])

    until(written_anew)
    secrets = Secrets(WORDS)
    files = search_folder(stack.state_dir, secrets)
    assert not files.found, files.found
    found = search_redis(keys, secrets).found
    assert not found, found


def palimpsest(stack: Served | None, *words: object) -> Any:
    """Run the command, without any server for None."""
    there = {"PALIMPSEST_SERVER": stack.target, "PALIMPSEST_TOKEN": stack.token or ""} if stack else {}
    environment = {
        "PALIMPSEST_SERVER": "127.0.0.1:1",
        "PALIMPSEST_TOKEN": "",
        "PALIMPSEST_MODEL": "",
        **there,
    }
    return CliRunner().invoke(cli.app, [str(word) for word in words], env=environment)


def test_the_certificate_verifies_offline_and_no_changed_byte_does(stack, done, tmp_path):
    saved = palimpsest(stack, "unlearn", "certificate", "vaults", "--folder", tmp_path)
    assert saved.exit_code == 0, saved.output
    command = saved.stdout.split()[1:]
    assert command[:2] == ["unlearn", "verify"]
    assert palimpsest(None, *command).exit_code == 0

    def valid() -> bool:
        checks = verify(
            tmp_path / "certificate.json",
            tmp_path / "log.jsonl",
            [tmp_path / "key.public.json"],
            datetime.now(UTC),
            revoked=tmp_path / "revoked.json",
        )
        return all(check.ok for check in checks)

    for name in ("certificate.json", "log.jsonl"):
        whole = (tmp_path / name).read_bytes()
        for place in range(10, len(whole), max(1, len(whole) // 7)):
            changed = bytearray(whole)
            changed[place] ^= 1
            (tmp_path / name).write_bytes(changed)
            assert not valid(), f"byte {place} of {name}"
        assert palimpsest(None, *command).exit_code == 1
        (tmp_path / name).write_bytes(whole)
    assert palimpsest(None, *command).exit_code == 0


def training(client: Client, name: str, **changes: Any) -> Any:
    """Start a request on weights alone."""
    forget = client.artifacts.upload(data.FORGET).digest
    plan = {"forget": forget, "model": "vaults-base", "new_model": name, "algorithm": "ga"}
    recipe = {"steps": 3, "batch": 1, "learning_rate": 1e-6, **changes}
    return client.unlearning.create_removal_request(plan={**plan, "training": recipe}, removal_id=name)


def test_two_requests_on_one_lineage_at_once_both_finish(client, done):
    jobs = [training(client, name, seed=seed) for seed, name in enumerate(("one", "another"))]
    results = [job.result(300) for job in jobs]
    assert [each.state for each in results] == [pb.REMOVAL_STATE_SUCCEEDED] * 2
    assert client.models.get_model(model_id="one").parent == "vaults-base"
    assert client.models.get_model(model_id="another").parent == "vaults-base"
    assert len({each.result.certificate for each in results}) == 2


def test_a_running_request_is_cancelled(client, done):
    job = training(client, "never-made", steps=100000)
    for seen in job:
        if seen.stage.startswith("training,"):
            job.cancel()
            break
    with pytest.raises(Cancelled):
        job.result(60)
    found = client.unlearning.get_removal_request(name="removalRequests/never-made")
    assert found.state == pb.REMOVAL_STATE_CANCELLED
    with pytest.raises(NotFound):
        client.models.get_model(model_id="never-made")
