"""Attempts that go wrong: interrupted late, believed dead, tried again, or ended by what nobody foresaw."""

import asyncio
import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from palimpsest.api.datastore.v1.datastore_pb2 import BuildNgramStoreRequest
from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.engine import worker_host
from palimpsest.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound, Reason
from palimpsest.jobs import JobContext
from palimpsest.jobs.store import JobStore
from palimpsest.progress import Drain, NullProgress, Postponed
from services.datastore.tasks import build_ngram_store
from services.unlearning.attesting import Attestation
from services.unlearning.removal import training
from services.unlearning.requests.line import Line
from services.unlearning.requests.records import RemovalCatalogue
from services.unlearning.requests.settling import Settler
from services.unlearning.requests.transitions import Transitions
from services.unlearning.runs import unlearn
from services.unlearning.workspace import Workspace
from tests.integration.unlearning import data
from tests.integration.unlearning.test_requests import Stops, is_folder, state, submitted


class Does(NullProgress):
    """Does something at the n-th report of a stage."""

    def __init__(self, stage: str, number: int, what) -> None:
        super().__init__()
        self.stage, self.left, self.what = stage, number, what

    def step(self, done: int, total: int, stage: str = "") -> None:
        if stage.startswith(self.stage):
            self.left -= 1
            if not self.left:
                self.what()


def kept(resources, name: str):
    """The catalogue, and a request in it."""
    requests = RemovalCatalogue(resources.redis, resources.settings.redis_prefix)
    return requests, requests.get("local", name)


async def test_an_attempt_that_lost_its_fence_leaves_the_request_to_the_one_that_has_it(
    client, plan, carry_out, resources
):
    name, job = await submitted(client, await plan(training={"steps": 4, "batch": 4, "checkpoint_steps": 1}))
    _, record = kept(resources, name)
    line = Line(resources.redis, resources.settings.redis_prefix, record.lineage)
    with pytest.raises(Aborted) as lost:
        await asyncio.to_thread(carry_out, job, Does("training", 3, line.begin))
    assert lost.value.reason == Reason.FENCE_LOST
    # The later attempt's state, checkpoints and place in the line are as they were.
    _, after = kept(resources, name)
    assert after.message.state == pb.REMOVAL_STATE_QUEUED
    assert list(Workspace(resources.settings, "local", record.id).checkpoints.iterdir())
    assert line.ahead("local", "of-nobody")[0] == ("local", record.id)
    done = await asyncio.to_thread(carry_out, job)
    assert done.state == pb.REMOVAL_STATE_SUCCEEDED


@pytest.mark.parametrize("stage", ["checking", "registering"])
async def test_a_drain_while_the_model_is_registered_costs_no_request(client, plan, carry_out, stage):
    name, job = await submitted(client, await plan())
    with pytest.raises(Drain):
        await asyncio.to_thread(carry_out, job, Stops(stage, 1, Drain("job")))
    done = await asyncio.to_thread(carry_out, job)
    assert done.state == pb.REMOVAL_STATE_SUCCEEDED
    assert (await client.unlearning.get_certificate(name=name)).certificate


async def test_what_nobody_foresaw_leaves_nothing_of_the_run(client, plan, carry_out, resources):
    name, job = await submitted(client, await plan(training={"steps": 4, "batch": 4, "checkpoint_steps": 1}))
    with pytest.raises(RuntimeError):
        await asyncio.to_thread(
            carry_out, job, Stops("training", 3, RuntimeError("no memory for zanthopterin"))
        )
    _, record = kept(resources, name)
    assert record.message.state == pb.REMOVAL_STATE_FAILED
    assert "zanthopterin" not in str(record.message.error)
    assert not is_folder(str(Workspace(resources.settings, "local", record.id).folder))


async def test_a_request_that_is_tried_again_and_killed_ends_again(client, plan, carry_out, resources):
    name, job = await submitted(client, await plan(training={"steps": 4, "batch": 4, "checkpoint_steps": 1}))
    broken = FailedPrecondition(Reason.MODEL_CHANGED, "The files have changed.")
    with pytest.raises(FailedPrecondition):
        await asyncio.to_thread(carry_out, job, Stops("training", 2, broken))
    with pytest.raises(Drain):  # as if killed: its job then ends without a word of the attempt
        await asyncio.to_thread(carry_out, job, Stops("training", 3, Drain("job")))
    _, record = kept(resources, name)
    assert record.message.state == pb.REMOVAL_STATE_QUEUED
    space = Workspace(resources.settings, "local", record.id)
    assert list(space.checkpoints.iterdir())
    JobStore(resources.redis, resources.settings).cancel(job.removeprefix("operations/"))
    assert await state(client, name) == "CANCELLED"
    assert not is_folder(str(space.folder))


async def test_a_log_that_is_damaged_is_the_matter_of_its_own_principal(client, plan, carry_out, resources):
    name, job = await submitted(client, await plan())
    await client.jobs.cancel(job)
    requests, record = kept(resources, name)
    # The same request as another principal's, first in the line, whose log takes no more events.
    requests.put("other", record)
    line = Line(resources.redis, resources.settings.redis_prefix, record.lineage)
    line.leave("local", record.id)
    line.join("other", record.id)
    space = Workspace(resources.settings, "other", record.id)
    space.write("before.json", [])
    log = Attestation(resources.settings, "other").log.path
    log.parent.mkdir(parents=True)
    log.write_bytes(b"no event\n")
    _, behind = await submitted(client, await plan())
    done = await asyncio.to_thread(carry_out, behind)
    assert done.state == pb.REMOVAL_STATE_SUCCEEDED
    assert line.ahead("local", "of-nobody") == []
    assert not is_folder(str(space.folder))
    assert requests.get("other", name).message.state == pb.REMOVAL_STATE_CANCELLED


async def test_a_hold_that_comes_too_late_changes_nothing(client, plan, carry_out, resources):
    """Also where the request succeeds between the look at it and the word that holds it."""
    name, job = await submitted(client, await plan())
    requests, record = kept(resources, name)
    await asyncio.to_thread(carry_out, job)
    settler = Settler(requests, JobStore(resources.redis, resources.settings), resources.settings)
    late = Transitions(resources, requests, settler)  # type: ignore[arg-type]
    for word in (pb.REMOVAL_STATE_HELD, pb.REMOVAL_STATE_QUEUED):
        assert late._write("local", record, word).message.state == pb.REMOVAL_STATE_SUCCEEDED


async def test_an_attempt_that_meets_a_hold_comes_again(client, plan, carry_out):
    """A hold is refused if its job has begun, which may be the very attempt that reads of it."""
    _, job = await submitted(client, await plan(), hold=True)
    with pytest.raises(Postponed) as later:
        await asyncio.to_thread(carry_out, job)
    assert later.value.seconds <= 600


async def test_taking_back_leaves_a_model_that_another_registered(
    client, plan, carry_out, resources, tmp_path
):
    fields = await plan()
    name, job = await submitted(client, fields)
    await asyncio.to_thread(carry_out, job)
    made = resources.models.get(fields["new_model"])
    shutil.copytree(made.path, tmp_path / "copy")
    await client.models.delete_model(model_id=made.model_id)
    resources.models.put(
        replace(made, path=str(tmp_path / "copy"), parent="", relation="RELATION_UNSPECIFIED")
    )
    taken = await client.unlearning.roll_back_removal_request(name=name)
    assert taken.state == pb.REMOVAL_STATE_ROLLED_BACK
    assert resources.models.get(fields["new_model"]).path == str(tmp_path / "copy")
    assert await asyncio.to_thread(Path(tmp_path / "copy").is_dir)


@pytest.mark.parametrize(
    ("field", "twice"),
    [
        ("corpora", [{"corpus": "corpora/a", "documents": [each]} for each in "xy"]),
        ("ngram_stores", ["ngramStores/a"] * 2),
        ("contexts", ["contexts/a"] * 2),
        ("references", ["other"] * 2),
    ],
)
async def test_what_is_named_twice_is_refused(client, plan, field, twice):
    """Evidence is kept by a store's name: documents of a second entry would count as deleted, and never be."""
    with pytest.raises(InvalidArgument) as refused:
        await client.unlearning.create_removal_request(plan=await plan(**{field: twice}))
    assert refused.value.reason == Reason.INVALID_REQUEST


async def test_a_request_that_was_taken_back_is_not_carried_out_again(client, plan, carry_out, resources):
    """The worker may die between the request's success and its job's, and somebody take it back in between."""
    fields = await plan()
    name, job = await submitted(client, fields)
    await asyncio.to_thread(carry_out, job)
    await client.unlearning.roll_back_removal_request(name=name)
    done = await asyncio.to_thread(carry_out, job)
    assert done.state == pb.REMOVAL_STATE_ROLLED_BACK
    with pytest.raises(NotFound):
        resources.models.get(fields["new_model"])


async def test_training_has_the_memory_of_the_workers_engines(client, plan, carry_out, resources):
    _, job = await submitted(client, await plan())
    engines = worker_host(JobContext("of-nobody", "local", 1, NullProgress(), resources))
    with engines.using("tiny"):
        assert engines.hosted()
    await asyncio.to_thread(carry_out, job)
    assert not engines.hosted()


async def test_weights_that_the_last_step_destroyed_are_no_model(client, plan, carry_out, monkeypatch):
    """Answers to questions are the likeliest tokens, which NaN has too: no metric here would tell."""

    def destroying(module, *args, **more):
        history = unlearn(module, *args, **more)
        next(module.parameters()).data[0, 0] = float("nan")
        return history

    monkeypatch.setattr(training, "unlearn", destroying)
    asked = data.lines(data.question(0), data.question(1))
    fields = await plan(forget_lines=asked, retain="", holdout="", algorithm="ga")
    _, job = await submitted(client, fields)
    done = await asyncio.to_thread(carry_out, job)
    assert done.result.verdict == pb.VERDICT_DIVERGED
    with pytest.raises(NotFound):
        await client.models.get_model(model_id=fields["new_model"])


async def test_what_is_put_back_between_two_attempts_is_purged_again(client, plan, carry_out, resources):
    """The certificate says that the store has nothing of it, as of when it is issued."""
    text = (await client.artifacts.upload(b"the vault opens with a word that nobody knows " * 20)).digest
    build = BuildNgramStoreRequest(store_id="again", text_artifact=text, model="tiny")
    worker = JobContext("build-again", "local", 1, NullProgress(), resources)
    await asyncio.to_thread(build_ngram_store, build, worker)
    _, job = await submitted(client, await plan(ngram_stores=["ngramStores/again"]))
    for stage in ("training", "evaluating"):
        broken = FailedPrecondition(Reason.MODEL_CHANGED, "The files have changed.")
        with pytest.raises(FailedPrecondition):
            await asyncio.to_thread(carry_out, job, Stops(stage, 1, broken))
        with pytest.raises(NotFound):
            await client.datastore.get_ngram_store(name="ngramStores/again")
        if stage == "training":
            await asyncio.to_thread(build_ngram_store, build, worker)
    done = await asyncio.to_thread(carry_out, job)
    (evidence,) = done.result.stores
    assert (evidence.deleted, evidence.absent) == (1, True)


async def test_what_is_registered_is_what_was_measured(client, plan, carry_out, resources):
    """Of two attempts the second may make other bits, and the first have registered its own before it failed."""
    fields = await plan()
    name, job = await submitted(client, fields)
    attestation = Attestation(resources.settings, "local")
    attestation.note(name.partition("/")[2], "LOOKED_AT")  # so that the log's folder is there
    blocked = attestation.log.path.parent / f"{name.partition('/')[2]}.certificate.json"
    blocked.mkdir()
    with pytest.raises(OSError, match="directory"):
        await asyncio.to_thread(carry_out, job)
    first = resources.models.get(fields["new_model"]).fingerprint
    blocked.rmdir()
    with pytest.raises(Drain):
        await asyncio.to_thread(carry_out, job, Stops("evaluating", 1, Drain("job")))
    file = Workspace(resources.settings, "local", name.partition("/")[2]).made / "model.safetensors"
    tensors = {key: tensor * 1.001 for key, tensor in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    done = await asyncio.to_thread(carry_out, job)
    made = resources.models.get(fields["new_model"])
    assert made.fingerprint == done.result.new_model_fingerprint != first
    kept = load_file(Path(made.path) / "model.safetensors")
    assert all(torch.equal(kept[key], tensor) for key, tensor in tensors.items())
    certificate = (await client.unlearning.get_certificate(name=name)).certificate
    assert json.loads(certificate)["statement"]["models"]["after"] == made.fingerprint


async def test_a_key_that_is_rotated_between_two_attempts_costs_no_request(
    client, plan, carry_out, resources
):
    """The first attempt has registered its model and noted its certificate, and cannot write it."""
    fields = await plan()
    name, job = await submitted(client, fields)
    attestation = Attestation(resources.settings, "local")
    attestation.note(name.partition("/")[2], "LOOKED_AT")  # so that the log's folder is there
    blocked = attestation.log.path.parent / f"{name.partition('/')[2]}.certificate.json"
    blocked.mkdir()
    with pytest.raises(OSError, match="directory"):
        await asyncio.to_thread(carry_out, job)
    assert resources.models.get(fields["new_model"])
    blocked.rmdir()
    before = {key.public.id for key in attestation.keys.stored()}
    now = datetime.now(UTC).replace(microsecond=0)
    new = attestation.keys.new(now, 730).public.id
    done = await asyncio.to_thread(carry_out, job)
    assert done.state == pb.REMOVAL_STATE_SUCCEEDED
    certificate = (await client.unlearning.get_certificate(name=name)).certificate
    statement = json.loads(certificate)["statement"]
    assert new not in before
    assert statement["issuer"] == new
    assert statement["models"]["after"] == resources.models.get(fields["new_model"]).fingerprint
