"""A request's life, its job run here and now: carried out, stopped and gone on with, held, taken back."""

import asyncio
import hashlib
import json
from pathlib import Path

import pytest
from google.protobuf import json_format

from palimpsest.api.datastore.v1.datastore_pb2 import BuildNgramStoreRequest
from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.errors import Cancelled, FailedPrecondition, NotFound, Reason
from palimpsest.jobs import JobContext, JobStore
from palimpsest.progress import Drain, NullProgress, Postponed
from services.datastore.tasks import build_ngram_store
from services.unlearning.workspace import Workspace
from tests.integration.unlearning import data


class Stops(NullProgress):
    """Interrupts at the n-th report of a stage; remembers the stages."""

    def __init__(self, stage: str, number: int, interrupt: Exception) -> None:
        super().__init__()
        self.stage, self.left, self.interrupt = stage, number, interrupt
        self.stages: list[str] = []

    def step(self, done: int, total: int, stage: str = "") -> None:
        if stage:
            self.stages.append(stage)
        if stage.startswith(self.stage):
            self.left -= 1
            if not self.left:
                raise self.interrupt


async def submitted(client, fields: dict, **more) -> tuple[str, str]:
    """Names of the request and of its job, which nobody runs."""
    job = await client.unlearning.create_removal_request(plan=fields, **more)
    listed = (await client.unlearning.list_removal_requests(page_size=1000)).removal_requests
    return next(each.name for each in listed if each.operation == job.name), job.name


async def state(client, name: str) -> str:
    found = await client.unlearning.get_removal_request(name=name)
    return pb.RemovalState.Name(found.state).removeprefix("REMOVAL_STATE_")


def weights(resources, model: str) -> str:
    path = Path(resources.models.get(model).path)
    return hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()


def is_folder(path: str) -> bool:
    return Path(path).is_dir()


async def test_a_request_is_carried_out(client, plan, carry_out, resources):
    fields = await plan(references=["other"])
    name, job = await submitted(client, fields)
    assert await state(client, name) == "QUEUED"
    progress = Stops("none", 1, Drain("job"))
    done = await asyncio.to_thread(carry_out, job, progress)
    order = [stage.partition(",")[0] for stage in progress.stages]
    assert [each for at, each in enumerate(order) if each not in order[:at]][:2] == [
        "resolving", "loading the model",
    ]  # fmt: skip
    assert (
        order.index("training")
        < order.index("evaluating")
        < order.index("attacking")
        < order.index("deciding")
    )
    seen = await client.unlearning.get_removal_request(name=name)
    assert seen == done
    assert seen.state == pb.REMOVAL_STATE_SUCCEEDED
    result = seen.result
    assert result.verdict in pb.Verdict.values()[1:]
    assert result.reference == "retrained"
    assert result.steps == 3
    metrics = {(m.metric, m.model) for m in result.measurements}
    assert {
        ("verbmem", "before"),
        ("verbmem", "after"),
        ("verbmem", "other"),
        ("knowmem", "after"),
    } <= metrics
    assert {("auc_min_k", "after"), ("perplexity", "other"), ("privleak", "after")} <= metrics
    assert {a.attack for a in result.attacks} == {"int8/32", "int4/32", "relearn/retain"}
    assert all(len(a.reference_gains) == 1 and a.HasField("tolerated") for a in result.attacks)
    assert {c.name for c in result.criteria} >= {"verbmem", "auc_min_k", "perplexity"}
    made = await client.models.get_model(model_id=fields["new_model"])
    assert made.fingerprint == result.new_model_fingerprint != result.model_fingerprint
    assert (made.parent, made.relation) == ("tiny", 2)
    assert (
        made.tokenizer_fingerprint == (await client.models.get_model(model_id="tiny")).tokenizer_fingerprint
    )
    manifest = await client.artifacts.read_bytes(result.forget.manifest)
    assert b"secret-0" in manifest
    text = json_format.MessageToJson(seen).encode() + manifest
    assert not any(word.encode() in text for word in data.SECRETS)
    assert not Workspace(resources.settings, "local", name.rpartition("/")[2]).folder.exists()
    stated = json.loads((await client.unlearning.get_certificate(name=name)).certificate)["statement"]
    warned = next(metric for metric in stated["metrics"] if metric["name"] == "length_match_p")
    assert (float(warned["value"]), warned["reference"]) == (result.lengths.p_value, "0.1")
    assert result.lengths.matched == (result.lengths.p_value > 0.1)


async def test_a_run_that_was_stopped_ends_with_the_same_bits(client, plan, carry_out, resources):
    made = []
    for stops in ((), ("training", "training", "evaluating", "attacking", "deciding")):
        fields = await plan(training={"steps": 4, "learning_rate": 1e-3, "batch": 4, "seed": 7})
        _, job = await submitted(client, fields)
        for number, stage in enumerate(stops, 1):
            with pytest.raises(Drain):
                await asyncio.to_thread(
                    carry_out, job, Stops(stage, number if stage == "training" else 1, Drain("job"))
                )
        await asyncio.to_thread(carry_out, job)
        made.append(weights(resources, fields["new_model"]))
    assert made[0] == made[1] != weights(resources, "tiny")


@pytest.mark.parametrize(
    "changes",
    [
        {"algorithm": "tv", "parameters": {"alpha": "0.5"}},
        {"algorithm": "repselect"},
        {"algorithm": "cir", "parameters": {"components": "2", "rounds": "2"}},
        {"algorithm": "npo_klr", "training": {"steps": 2, "lora_rank": 2, "batch": 4}},
        {"algorithm": "rmu", "training": {"steps": 2, "batch": 4}},
        {"algorithm": "idk", "forget_lines": data.lines(data.question(0), data.question(1))},
        {"algorithm": "ga", "retain": "", "holdout": ""},
    ],
    ids=str,
)
async def test_every_way_to_make_the_weights(client, plan, carry_out, changes):
    fields = await plan(**changes)
    _, job = await submitted(client, fields)
    done = await asyncio.to_thread(carry_out, job)
    assert done.result.new_model_fingerprint.startswith("sha256:")
    assert done.result.certificate.startswith("sha256:")


@pytest.mark.parametrize(
    "rule", ["forget_match", "generation_match", "privacy_match", "utility_floor", "holdout_match"]
)
async def test_a_stopping_rule_ends_the_run_and_the_best_state_is_kept(
    client, plan, carry_out, resources, taught, rule
):
    training = {"steps": 200, "learning_rate": 3e-4, "batch": 6}
    fields = await plan(
        model="knows", references=["never"], algorithm="ga", training=training,
        stopping={"rule": rule, "every_steps": 2}, forget_lines=data.lines(*map(data.secret, range(6))),
    )  # fmt: skip
    _, job = await submitted(client, fields)
    with pytest.raises(Drain):
        await asyncio.to_thread(carry_out, job, Stops("training", 3, Drain("job")))
    done = await asyncio.to_thread(carry_out, job)
    result = done.result
    assert result.stopped == "probe"
    assert 2 <= result.steps < 200
    values = {(m.metric, m.model): m.value for m in result.measurements}
    assert values["verbmem", "before"] > values["verbmem", "never"] + 20
    assert values["verbmem", "after"] <= values["verbmem", "before"]
    assert weights(resources, fields["new_model"]) != weights(resources, "knows")


async def test_a_rule_that_generates_needs_something_to_generate(client, plan, carry_out, taught):
    fields = await plan(
        model="knows", references=["never"], algorithm="ga", stopping={"rule": "generation_match"},
        forget_lines=data.lines({"id": "short", "text": "ab"}),
    )  # fmt: skip
    _, job = await submitted(client, fields)
    with pytest.raises(FailedPrecondition) as short:
        await asyncio.to_thread(carry_out, job)
    assert short.value.reason == Reason.REFERENCE_MISSING


async def test_a_stopping_rule_ends_rounds_too(client, plan, carry_out, resources, taught):
    fields = await plan(
        model="knows", references=["never"], algorithm="cir", stopping={"rule": "forget_match"},
        parameters={"components": "2", "rounds": "60", "step": "0.05"},
        forget_lines=data.lines(*map(data.secret, range(6))),
    )  # fmt: skip
    _, job = await submitted(client, fields)
    with pytest.raises(Drain):
        await asyncio.to_thread(carry_out, job, Stops("training", 3, Drain("job")))
    result = (await asyncio.to_thread(carry_out, job)).result
    assert result.stopped == "probe"
    values = {(m.metric, m.model): m.value for m in result.measurements}
    assert values["verbmem", "after"] < values["verbmem", "before"]
    assert weights(resources, fields["new_model"]) != weights(resources, "knows")


async def test_a_run_that_diverges_is_a_finished_request(client, plan, carry_out):
    # A decay of ten times the weights turns them around and makes them nine times as large with every step.
    training = {"steps": 60, "learning_rate": 1.0, "weight_decay": 10.0, "batch": 8}
    fields = await plan(algorithm="ga", training=training)
    name, job = await submitted(client, fields)
    done = await asyncio.to_thread(carry_out, job)
    assert done.state == pb.REMOVAL_STATE_SUCCEEDED
    assert done.result.verdict == pb.VERDICT_DIVERGED
    with pytest.raises(NotFound):
        await client.models.get_model(model_id=fields["new_model"])
    with pytest.raises(FailedPrecondition) as none:
        await client.unlearning.get_certificate(name=name)
    assert none.value.reason == Reason.CERTIFICATE_MISSING


async def test_requests_on_one_lineage_wait_for_each_other(client, plan, carry_out, resources):
    first, first_job = await submitted(client, await plan())
    second, second_job = await submitted(client, await plan())
    preview = await client.unlearning.preview_removal(plan=await plan())
    assert preview.ahead == 2
    with pytest.raises(Postponed):
        await asyncio.to_thread(carry_out, second_job)
    await asyncio.to_thread(carry_out, first_job)
    await asyncio.to_thread(carry_out, second_job)
    assert [await state(client, each) for each in (first, second)] == ["SUCCEEDED", "SUCCEEDED"]
    # Another lineage is another line.
    waiting, waiting_job = await submitted(client, await plan())
    _, apart = await submitted(client, await plan(model="other"))
    await asyncio.to_thread(carry_out, apart)
    # One whose job is cancelled is out of the line.
    JobStore(resources.redis, resources.settings).cancel(waiting_job.removeprefix("operations/"))
    assert (await client.unlearning.preview_removal(plan=await plan())).ahead == 0
    assert await state(client, waiting) == "CANCELLED"


async def test_a_held_request_waits_for_its_approval(client, plan, carry_out):
    name, job = await submitted(client, await plan(), hold=True)
    assert await state(client, name) == "HELD"
    with pytest.raises(Postponed):
        await asyncio.to_thread(carry_out, job)
    assert (await client.unlearning.preview_removal(plan=await plan())).ahead == 0
    await client.unlearning.approve_removal_request(name=name)
    assert await state(client, name) == "QUEUED"
    await client.unlearning.hold_removal_request(name=name)
    await client.unlearning.hold_removal_request(name=name)
    assert await state(client, name) == "HELD"
    await client.unlearning.approve_removal_request(name=name)
    await asyncio.to_thread(carry_out, job)
    for call in (client.unlearning.hold_removal_request, client.unlearning.approve_removal_request):
        with pytest.raises(FailedPrecondition) as over:
            await call(name=name)
        assert over.value.reason == Reason.REMOVAL_STATE
    log = b"".join([part.data async for part in client.unlearning.read_audit_log()]).decode()
    ours = [line for line in log.splitlines() if f'"{name.rpartition("/")[2]}"' in line]
    order = [
        "RECEIVED",
        "HELD",
        "APPROVED",
        "HELD",
        "APPROVED",
        "STARTED",
        "RESOLVED",
        "MODEL_MADE",
        "CERTIFICATE_ISSUED",
    ]
    assert len(ours) == len(order)
    assert all(f'"{event}"' in line for event, line in zip(order, ours, strict=True))


async def test_a_finished_request_is_taken_back(client, plan, carry_out, resources):
    fields = await plan()
    name, job = await submitted(client, fields)
    with pytest.raises(FailedPrecondition):
        await client.unlearning.roll_back_removal_request(name=name)
    await asyncio.to_thread(carry_out, job)
    folder = resources.models.get(fields["new_model"]).path
    assert is_folder(folder)
    before = await client.unlearning.get_certificate(name=name)
    for _ in range(2):
        taken = await client.unlearning.roll_back_removal_request(name=name)
        assert taken.state == pb.REMOVAL_STATE_ROLLED_BACK
    assert not is_folder(folder)
    with pytest.raises(NotFound):
        await client.models.get_model(model_id=fields["new_model"])
    after = await client.unlearning.get_certificate(name=name)
    assert after.certificate == before.certificate
    assert after.revocations != before.revocations
    assert taken.result.certificate.encode() in after.revocations


async def test_cancelling_leaves_nothing_of_the_run(client, plan, carry_out, resources):
    fields = await plan(training={"steps": 50, "checkpoint_steps": 1, "batch": 4})
    name, job = await submitted(client, fields)
    cancelled = Cancelled(Reason.JOB_CANCELLED, "The job was cancelled.")
    with pytest.raises(Cancelled):
        await asyncio.to_thread(carry_out, job, Stops("training", 4, cancelled))
    space = Workspace(resources.settings, "local", name.rpartition("/")[2])
    assert not is_folder(str(space.folder))
    assert not list(resources.settings.models_dir.glob(f".unlearned-{space.key}*"))
    assert not list(resources.settings.models_dir.glob(f"unlearned-{space.key}*"))


async def test_the_callers_copy_of_the_forget_set_goes_if_asked(client, plan, carry_out):
    mine = data.lines(*map(data.secret, range(4)))
    fields = await plan(forget_lines=mine, delete_forget_set=True)
    _, job = await submitted(client, fields)
    done = await asyncio.to_thread(carry_out, job)
    assert done.result.forget_set_deleted
    with pytest.raises(NotFound):
        await client.artifacts.read_bytes(fields["forget"])


async def test_a_store_that_is_still_used_stops_the_request_until_it_is_not(
    client, plan, carry_out, resources
):
    text = (await client.artifacts.upload(b"the quick brown fox jumps over the lazy dog " * 20)).digest
    build = BuildNgramStoreRequest(store_id="used", text_artifact=text, model="tiny")
    build_ngram_store(build, JobContext("build", "local", 1, NullProgress(), resources))
    store = await client.datastore.get_ngram_store(name="ngramStores/used")
    using = await client.codec.calibrate(model="tiny", texts=store.artifact)
    _, job = await submitted(client, await plan(ngram_stores=[store.name]))
    with pytest.raises(FailedPrecondition) as used:
        await asyncio.to_thread(carry_out, job)
    assert used.value.reason == Reason.STORE_NOT_EMPTY
    assert used.value.metadata == {"store": "ngramStores/used"}
    await client.jobs.cancel(using.name)
    done = await asyncio.to_thread(carry_out, job)
    (evidence,) = done.result.stores
    assert (evidence.deleted, evidence.absent) == (1, True)
    with pytest.raises(NotFound):
        await client.artifacts.read_bytes(store.artifact)
