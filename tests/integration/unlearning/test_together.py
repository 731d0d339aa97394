"""Requests that are alike and wait in one line are trained in one run; each is measured and certified by itself."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.certificates import verify
from palimpsest.disk import disk_full
from palimpsest.errors import Cancelled, InvalidArgument, NotFound, Reason, ResourceExhausted
from palimpsest.jobs import JobStore
from palimpsest.progress import Drain, NullProgress
from services.unlearning.requests.history import past_of
from services.unlearning.requests.records import RemovalCatalogue
from tests.integration.unlearning import data
from tests.integration.unlearning.test_requests import Stops, state, submitted, weights
from tests.integration.unlearning.test_sweeping import failed_for_want_of_room

TRAINING = {"steps": 0, "learning_rate": 1e-3, "batch": 2, "checkpoint_steps": 1}
CANCELLED = Cancelled(Reason.JOB_CANCELLED, "The job was cancelled.")


class Watched(NullProgress):
    """Remembers the stages."""

    def __init__(self) -> None:
        super().__init__()
        self.stages: list[str] = []

    def step(self, done: int, total: int, stage: str = "") -> None:
        self.stages.append(stage)

    @property
    def trained(self) -> bool:
        return any(stage.startswith("training") for stage in self.stages)


@pytest.fixture
def sent(client, plan):
    """Submit a request for some secrets; returns names of request and job, and the plan's fields."""

    async def send(*secrets: int, hold: bool = False, **changes):
        lines = changes.pop("forget_lines", data.lines(*map(data.secret, secrets)))
        common = {"training": TRAINING, "attacks": {"names": ["bfloat16"]}, "coalesce": True}
        fields = await plan(forget_lines=lines, **{**common, **changes})
        name, job = await submitted(client, fields, hold=hold)
        return name, job, fields

    return send


@pytest.fixture
def ran(carry_out):
    """Run jobs in their order; returns what became of each, and which of them have trained."""

    async def run(*requests):
        done, trained = [], []
        for _, job, _ in requests:
            progress = Watched()
            done.append(await asyncio.to_thread(carry_out, job, progress))
            trained.append(progress.trained)
        return done, trained

    return run


async def certified(client, resources, folder: Path, name: str) -> dict:
    """The statement of a request's certificate, which verifies from files alone."""
    found = await client.unlearning.get_certificate(name=name)
    log = b"".join([part.data async for part in client.unlearning.read_audit_log()])
    files = {
        "certificate": found.certificate,
        "key": found.public_key,
        "revoked": found.revocations,
        "log": log,
    }
    for file, content in files.items():
        (folder / file).write_bytes(content)
    checks = verify(
        folder / "certificate",
        folder / "log",
        [folder / "key"],
        datetime.now(UTC),
        revoked=folder / "revoked",
    )
    assert all(check.ok for check in checks), checks
    return json.loads(found.certificate)["statement"]


async def events(client, name: str) -> list[str]:
    log = b"".join([part.data async for part in client.unlearning.read_audit_log()]).decode()
    lines = map(json.loads, log.splitlines())
    return [each["type"] for each in lines if each["request"] == name.partition("/")[2]]


async def test_alike_requests_are_one_run_and_three_certificates(client, sent, ran, resources, tmp_path):
    first = await sent(0, 1, references=["other"])
    same = {"references": ["other"]}
    held = await sent(2, hold=True, **same)
    flipped = await sent(3, references=["other"], algorithm="ga")
    second, third = await sent(2, 3, **same), await sent(4, delete_forget_set=True, **same)
    preview = await client.unlearning.preview_removal(plan={**first[2], "new_model": "of-nobody"})
    assert (preview.alike, preview.ahead) == (3, 4)
    done, trained = await ran(first, flipped, second, third)
    assert trained == [True, True, False, False]
    group = [first[0], second[0], third[0]]
    ours, results = (first, second, third), [done[0].result, done[2].result, done[3].result]
    assert [list(each.trained_together) for each in results] == [group] * 3
    assert not done[1].result.trained_together
    # Five passes over five documents in batches of two; each by itself would have had five, five and five steps.
    assert [each.steps for each in results] == [15] * 3
    assert len({each.curve for each in results}) == 1
    made = [weights(resources, each[2]["new_model"]) for each in ours]
    assert made[0] == made[1] == made[2] != weights(resources, flipped[2]["new_model"])
    for (name, _, fields), result in zip(ours, results, strict=True):
        model = resources.models.get(fields["new_model"])
        assert (model.parent, model.fingerprint) == ("tiny", result.new_model_fingerprint)
        stated = await certified(client, resources, tmp_path, name)
        assert stated["method"]["configuration"]["trained_together"] == [
            each.partition("/")[2] for each in group
        ]
        assert stated["method"]["configuration"]["training"]["steps"] == 15
        assert stated["manifest"]["counts"]["documents"] == result.forget.documents
        assert {each.metric for each in result.measurements} >= {"verbmem", "auc_min_k"}
        assert bool(result.attacks) == (result.forget.documents > 1)
    assert [each.forget.documents for each in results] == [2, 2, 1]
    assert len({each.forget.manifest for each in results}) == 3
    assert results[2].forget_set_deleted  # nobody refers to it for the run any more
    assert [each.other_requests - results[0].other_requests for each in results] == [
        0,
        1,
        1,
    ]  # the flipped one
    log = [await events(client, name) for name in group]
    assert ["TRAINED_TOGETHER" in each for each in log] == [True, False, False]
    assert ["WEIGHTS_TAKEN" in each for each in log] == [False, True, True]
    # What is made from any of the three is measured for all, and the run has cost what it has cost once.
    requests = RemovalCatalogue(resources.redis, resources.settings.redis_prefix)
    past = past_of(requests, "local", resources.models, resources.models.get(second[2]["new_model"]))
    assert [each.message.name for each in past.requests] == [*reversed(group)]
    assert len(past.line) == 1
    assert await state(client, held[0]) == "HELD"
    await client.jobs.cancel(held[1])


@pytest.mark.parametrize("how", ["cancelled", "rolled back", "deleted", "damaged"])
async def test_without_the_model_of_the_first_the_others_are_alone(
    client, sent, ran, carry_out, resources, how
):
    first, second, third = await sent(0), await sent(1), await sent(2)
    if how == "cancelled":
        with pytest.raises(Cancelled):
            await asyncio.to_thread(carry_out, first[1], Stops("training", 2, CANCELLED))
        JobStore(resources.redis, resources.settings).cancel(first[1].removeprefix("operations/"))
    else:
        await ran(first)
    shared = (await client.unlearning.get_removal_request(name=second[0])).shared_run
    assert (list(shared.requests), shared.steps) == ([first[0], second[0], third[0]], 10)
    made = first[2]["new_model"]
    if how == "rolled back":
        await client.unlearning.roll_back_removal_request(name=first[0])
    elif how == "deleted":
        await client.models.delete_model(model_id=made)
    elif how == "damaged":
        file = Path(resources.models.get(made).path) / "model.safetensors"
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    done, trained = await ran(second, third)
    assert trained == [True, True]
    assert not any(each.result.trained_together or each.HasField("shared_run") for each in done)
    assert [each.result.steps for each in done] == [5, 5]
    assert len({weights(resources, each[2]["new_model"]) for each in (second, third)}) == 2


async def test_a_run_that_diverged_is_not_tried_on_the_others_together(client, sent, ran, resources):
    training = {"steps": 60, "learning_rate": 1.0, "weight_decay": 10.0, "batch": 8}
    wild = {"algorithm": "ga", "training": training}
    first, second = await sent(0, **wild), await sent(1, **wild)
    done, trained = await ran(first, second)
    assert trained == [True, True]
    assert [each.result.verdict for each in done] == [pb.VERDICT_DIVERGED] * 2
    assert list(done[0].result.trained_together) == [first[0], second[0]]
    assert not done[1].result.trained_together
    assert not done[1].HasField("shared_run")
    for _, _, fields in (first, second):
        with pytest.raises(NotFound):
            resources.models.get(fields["new_model"])


async def test_a_first_one_that_had_no_room_keeps_its_group(client, sent, ran, carry_out, resources):
    """Tried again it is the last of the line. The others have been trained alone by then, and do not change its run."""
    first, second, third = await sent(0), await sent(1), await sent(2)
    with pytest.raises(ResourceExhausted):
        await asyncio.to_thread(carry_out, first[1], Stops("training", 4, disk_full("a checkpoint")))
    failed_for_want_of_room(JobStore(resources.redis, resources.settings), first[1])
    (alone,), trained = await ran(second)
    assert (trained, list(alone.result.trained_together)) == ([True], [])
    await client.jobs.retry(first[1])
    (last, done), trained = await ran(third, first)
    assert trained == [True, True]
    assert not last.result.trained_together
    assert list(done.result.trained_together) == [first[0], second[0], third[0]]
    assert done.result.steps == 10


def kept_for(resources, request) -> list[str]:
    """Runs of other requests that the forget set of one is kept for."""
    owners = resources.artifacts.references.owners(request[2]["forget"])
    return [each for each in owners if each.startswith("removal-run/")]


async def test_attempts_keep_to_the_group_whatever_becomes_of_the_others(
    client, sent, ran, carry_out, resources
):
    """The run is the same, to the bit, though one of the group is cancelled and deleted, and another one comes late."""
    made, late = [], []
    for stops in ((), (("training", 3), ("evaluating", 1))):
        first, second, third = await sent(0, 1), await sent(2), await sent(3, 4)
        for stage, reports in stops:
            with pytest.raises(Drain):
                await asyncio.to_thread(carry_out, first[1], Stops(stage, reports, Drain("job")))
            if stage == "training":
                JobStore(resources.redis, resources.settings).cancel(second[1].removeprefix("operations/"))
                await client.jobs.delete(second[1])
                assert kept_for(resources, second) == [f"removal-run/local/{first[0].partition('/')[2]}"]
                late.append(await sent(5))
        if stops:
            (done, last), _ = await ran(first, third)
            (alone,), trained = await ran(*late)
            assert (trained, alone.result.trained_together) == ([True], [])
            assert not kept_for(resources, second)
        else:
            (done, _, last), _ = await ran(first, second, third)
        assert list(done.result.trained_together) == [first[0], second[0], third[0]]
        assert list(last.result.trained_together) == list(done.result.trained_together)
        made.append(weights(resources, first[2]["new_model"]))
        assert weights(resources, third[2]["new_model"]) == made[-1]
    assert made[0] == made[1] != weights(resources, "tiny")


async def test_one_that_takes_weights_over_may_be_stopped_at_any_step(
    client, sent, ran, carry_out, resources
):
    first, second = await sent(0), await sent(1)
    await ran(first)
    for stage in ("taking", "evaluating", "attacking", "registering"):
        with pytest.raises(Drain):
            await asyncio.to_thread(carry_out, second[1], Stops(stage, 1, Drain("job")))
    # The last one has deleted the copy, and by now there is nothing to copy: it is made anew, and measured anew.
    await client.unlearning.roll_back_removal_request(name=first[0])
    (done,), trained = await ran(second)
    assert trained == [True]
    assert not done.result.trained_together
    after = {m.metric: m.value for m in done.result.measurements if m.model == "after"}
    (alone,), _ = await ran(await sent(1))
    assert {m.metric: m.value for m in alone.result.measurements if m.model == "after"} == after
    assert alone.result.new_model_fingerprint == done.result.new_model_fingerprint


async def test_one_that_cannot_be_trained_on_is_left_to_itself(client, sent, ran, carry_out, resources):
    """An algorithm for answers, and a request of a document among those waiting."""
    asked = [data.lines(data.question(number)) for number in (0, 1)]
    first = await sent(forget_lines=asked[0], algorithm="idk")
    document = await sent(2, algorithm="idk")
    last = await sent(forget_lines=asked[1], algorithm="idk")
    done, _ = await ran(first)
    assert list(done[0].result.trained_together) == [first[0], last[0]]
    with pytest.raises(InvalidArgument):
        await asyncio.to_thread(carry_out, document[1])
    done, trained = await ran(last)
    assert trained == [False]


async def test_together_they_may_not_have_more_of_the_holdout_set_than_each(sent, ran):
    """A document of the holdout set of which two requests have a part each, too small to count by itself."""
    words = [f"word{number}" for number in range(140)]
    unseen = data.lines({"id": "unseen", "text": " ".join(words)})
    parts = [
        " ".join([*words[start : start + 32], *(f"o{start}x{n}" for n in range(200))]) for start in (0, 64)
    ]
    sets = [data.lines({"id": "part", "text": part}) for part in parts]
    first, second = [await sent(forget_lines=each, holdout_lines=unseen) for each in sets]
    done, trained = await ran(first, second)
    assert trained == [True, True]
    assert not any(each.result.trained_together for each in done)


async def test_a_search_is_not_shared(client, plan):
    fields = await plan(coalesce=True, search={"learning_rates": [1e-4, 1e-3]})
    with pytest.raises(InvalidArgument) as refused:
        await client.unlearning.create_removal_request(plan=fields)
    assert refused.value.reason == Reason.INVALID_REQUEST
    assert "coalesce" in refused.value.message
