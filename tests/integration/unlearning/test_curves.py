"""The curves of a request's run: kept for its caller, with numbers alone."""

import asyncio
import json

import pytest

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.errors import FailedPrecondition, Reason
from palimpsest.progress import Drain
from palimpsest.report.removal.curves import read_curves
from tests.integration.unlearning import data
from tests.integration.unlearning.test_requests import Stops, submitted


async def test_the_losses_of_a_run_are_kept(client, plan, carry_out):
    _, job = await submitted(client, await plan())
    done = await asyncio.to_thread(carry_out, job)
    kept = await client.artifacts.read_bytes(done.result.curve)
    facts = json.loads(kept)
    assert set(facts) == {"losses", "rates", "norms"}
    assert all(len(values) == 3 for values in facts.values())
    assert read_curves(kept).losses == tuple(facts["losses"])
    # As long as the request's record names it, it is nobody's to delete.
    with pytest.raises(FailedPrecondition) as used:
        await client.artifacts.delete_artifact(digest=done.result.curve)
    assert used.value.reason == Reason.ARTIFACT_IN_USE


async def test_what_a_stopping_rule_saw_is_kept_also_by_a_later_attempt(client, plan, carry_out, taught):
    fields = await plan(
        model="knows", references=["never"], algorithm="ga",
        training={"steps": 200, "learning_rate": 3e-4, "batch": 6},
        stopping={"rule": "forget_match", "every_steps": 2},
        forget_lines=data.lines(*map(data.secret, range(6))),
    )  # fmt: skip
    _, job = await submitted(client, fields)
    for stage in ("training", "evaluating"):
        with pytest.raises(Drain):
            await asyncio.to_thread(
                carry_out, job, Stops(stage, 3 if stage == "training" else 1, Drain("job"))
            )
    done = await asyncio.to_thread(carry_out, job)
    kept = await client.artifacts.read_bytes(done.result.curve)
    curves = read_curves(kept)
    assert len(curves.losses) == done.result.steps
    assert [look.step for look in curves.looks][:3] == [0.0, 2.0, 4.0]
    rule, _, figures = curves.ended.partition(": ")
    assert rule in ("forget_match", "divergence_guard")
    assert figures.startswith(("forget_", "auc "))
    assert curves.kept_step in {look.step for look in curves.looks}
    first, last = curves.looks[0].values, curves.looks[-1].values
    assert first["forget_em"] > last["forget_em"]
    text = kept.decode()
    assert not any(word in text for word in (*data.SECRETS, "secret-", "kept-", "never-"))


async def test_a_run_that_diverged_keeps_its_curve_without_numbers_that_json_lacks(client, plan, carry_out):
    training = {"steps": 60, "learning_rate": 1.0, "weight_decay": 10.0, "batch": 8}
    _, job = await submitted(client, await plan(algorithm="ga", training=training))
    done = await asyncio.to_thread(carry_out, job)
    assert done.result.verdict == pb.VERDICT_DIVERGED
    curves = read_curves(await client.artifacts.read_bytes(done.result.curve))
    assert len(curves.losses) == done.result.steps


async def test_an_edit_without_steps_has_no_curve(client, plan, carry_out):
    _, job = await submitted(client, await plan(algorithm="repselect"))
    assert (await asyncio.to_thread(carry_out, job)).result.curve == ""
