"""Algorithms that begin with the weights of another model than the one that knows: trained again, and distilled."""

import asyncio
import json

import pytest

from palimpsest.progress import Drain
from tests.integration.unlearning import data
from tests.integration.unlearning.test_requests import Stops, submitted, weights

LEARNING = {"steps": 60, "learning_rate": 5e-3, "batch": 6}


def of(result, metric: str, model: str) -> float:
    return next(m.value for m in result.measurements if (m.metric, m.model) == (metric, model))


async def test_a_model_is_trained_again_from_its_base_without_the_data(
    client, plan, carry_out, resources, taught
):
    fields = await plan(
        model="knows", algorithm="retrain", start="tiny", training=LEARNING, references=["never"],
        forget_lines=data.lines(*map(data.secret, range(6))),
    )  # fmt: skip
    preview = await client.unlearning.preview_removal(plan=fields)
    assert preview.training_tokens == pytest.approx(60 * preview.retain.tokens, rel=0.01)  # six texts a step
    _, job = await submitted(client, fields)
    with pytest.raises(Drain):
        await asyncio.to_thread(carry_out, job, Stops("training", 9, Drain("job")))
    result = (await asyncio.to_thread(carry_out, job)).result
    assert result.start_fingerprint == resources.models.get("tiny").fingerprint
    made = resources.models.get(fields["new_model"])
    assert (made.parent, made.relation) == ("knows", "RELATION_UNLEARNED")
    assert of(result, "verbmem", "before") > of(result, "verbmem", "never") + 20
    assert of(result, "verbmem", "after") < of(result, "verbmem", "before") - 20
    assert of(result, "perplexity", "after") < 2 * of(result, "perplexity", "before")


async def test_an_unlearned_model_is_distilled_and_both_are_its_past(
    client, plan, carry_out, resources, taught
):
    first = await plan(model="knows", forget_lines=data.lines(data.secret(0)))
    one, job = await submitted(client, first)
    await asyncio.to_thread(carry_out, job)
    teacher = first["new_model"]
    second = await plan(
        model="knows", algorithm="undo", start=teacher, parameters={"alpha": "0.3"},
        training={"steps": 4, "learning_rate": 1e-3, "batch": 4}, forget_lines=data.lines(data.secret(0)),
    )  # fmt: skip
    two, job = await submitted(client, second)
    result = (await asyncio.to_thread(carry_out, job)).result
    assert result.start_fingerprint == resources.models.get(teacher).fingerprint
    assert result.new_model_fingerprint != result.start_fingerprint
    assert weights(resources, second["new_model"]) != weights(resources, teacher)
    assert [each.name for each in result.earlier_requests] == [one]
    # The loss is that from the model before, so that what the teacher lost is not counted twice.
    assert result.total_utility_loss == pytest.approx(result.utility_loss)
    third = await plan(model=second["new_model"], forget_lines=data.lines(data.secret(1)))
    _, job = await submitted(client, third)
    after = (await asyncio.to_thread(carry_out, job)).result
    assert [each.name for each in after.earlier_requests] == [two, one]
    assert after.total_utility_loss == pytest.approx(result.utility_loss + after.utility_loss)


async def test_what_a_retrained_model_was_not_given_is_recited_to_it_and_no_secret(
    client, plan, carry_out, resources, taught
):
    """Of six texts to be kept the retain set has three; the others come from the model that knows."""
    given = dict(
        model="knows", algorithm="retrain", start="tiny", training=LEARNING,
        retain_lines=data.lines(*map(data.kept, range(3))),
        utility=(await client.artifacts.upload(data.lines(*map(data.kept, range(3, 6))))).digest,
        forget_lines=data.lines(*map(data.secret, range(6))),
    )  # fmt: skip
    _, job = await submitted(client, await plan(**given))
    without = (await asyncio.to_thread(carry_out, job)).result
    assert without.replayed == 0
    fields = await plan(**given, replay={"draws": 300, "keep": 20})
    name, job = await submitted(client, fields)
    with pytest.raises(Drain):
        await asyncio.to_thread(carry_out, job, Stops("training", 9, Drain("job")))
    result = (await asyncio.to_thread(carry_out, job)).result
    assert 3 <= result.replayed <= 20
    assert of(result, "perplexity", "after") < 0.7 * of(without, "perplexity", "after")
    assert of(result, "verbmem", "after") < of(result, "verbmem", "before") - 20
    certificate = (await client.unlearning.get_certificate(name=name)).certificate
    configuration = json.loads(certificate)["statement"]["method"]["configuration"]
    assert configuration["replay"] == {
        "draws": 300, "keep": 20, "tokens": 64, "prompt": 2, "kept": result.replayed,
    }  # fmt: skip


async def test_a_model_learns_what_one_says_that_never_knew(client, plan, carry_out, resources, taught):
    fields = await plan(
        model="knows", algorithm="bad_teaching", teacher="tiny",
        training={"steps": 40, "learning_rate": 2e-3, "batch": 6},
        forget_lines=data.lines(*map(data.secret, range(6))),
    )  # fmt: skip
    _, job = await submitted(client, fields)
    result = (await asyncio.to_thread(carry_out, job)).result
    assert result.teacher_fingerprint == resources.models.get("tiny").fingerprint
    assert result.start_fingerprint == ""
    assert of(result, "verbmem", "after") < of(result, "verbmem", "before") - 20
