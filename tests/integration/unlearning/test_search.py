"""Settings found by trials on one half of the data, and certified on the other."""

import asyncio
import json

import pytest

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.errors import Cancelled, InvalidArgument, Reason
from palimpsest.progress import Drain
from services.unlearning.splits import half_of
from services.unlearning.workspace import Workspace
from tests.integration.unlearning import data
from tests.integration.unlearning.test_requests import Stops, submitted, weights

TRAINING = {"steps": 6, "learning_rate": 1e-5, "batch": 4, "seed": 3}
SEARCH = {"learning_rates": [1e-5, 1e-3], "retain_weights": [1, 3]}
CERTIFIED = [n for n in range(6) if half_of(f"secret-{n}") == "certify"]


@pytest.fixture
def searching(plan):
    """The fields of a plan with a search."""

    async def make(**changes):
        fields = {"forget_lines": data.lines(*map(data.secret, range(6))), "search": SEARCH}
        if "holdout_lines" not in changes:
            fields["holdout"] = ""
        return await plan(**{**fields, "training": TRAINING, **changes})

    return make


async def test_the_model_is_trained_by_the_best_setting_and_measured_on_the_other_half(
    client, searching, carry_out, resources, taught
):
    fields = await searching(model="knows", references=["never"])
    preview = await client.unlearning.preview_removal(plan=fields)
    assert preview.trials == 5
    plain = {name: value for name, value in fields.items() if name != "search"}
    alone = (await client.unlearning.preview_removal(plan=plain)).training_tokens
    assert preview.training_tokens == pytest.approx(alone * (6 + 4 * 2 + 6) / 6, abs=2)
    name, job = await submitted(client, fields)
    progress = Stops("none", 1, Drain("job"))
    result = (await asyncio.to_thread(carry_out, job, progress)).result
    assert [(t.round, t.steps, t.chosen) for t in result.trials] == [(0, 2, False)] * 4 + [(1, 6, True)]
    best = min(result.trials[:4], key=lambda trial: trial.cost)
    chosen = result.trials[-1]
    assert (chosen.learning_rate, chosen.retain_weight) == (best.learning_rate, best.retain_weight)
    assert "searching, round 1 of 2, 2 steps a setting" in progress.stages
    # As many items as the certificate's half has, and no text of them in the trials.
    counts = {m.metric: m.count for m in result.measurements if m.model == "after"}
    assert counts["verbmem"] == len(CERTIFIED) < 6
    assert [m.count for m in result.recheck] == [len(CERTIFIED)]
    statement = json.loads((await client.unlearning.get_certificate(name=name)).certificate)["statement"]
    assert {each["split"] for each in statement["metrics"]} == {"forget.certify", "retain.certify"}
    configuration = statement["method"]["configuration"]
    assert (configuration["search"]["tuned_on"], configuration["search"]["certified_on"]) == (
        "tune",
        "certify",
    )
    assert len(configuration["search"]["trials"]) == 5
    assert float(configuration["training"]["learning_rate"]) == chosen.learning_rate
    assert float(configuration["parameters"]["alpha"]) == chosen.retain_weight
    # The model itself is trained on both halves, as by a plan that names the setting.
    same = {
        **plain,
        "new_model": f"{fields['new_model']}-same",
        "training": {**TRAINING, "learning_rate": chosen.learning_rate},
        "parameters": {"alpha": str(chosen.retain_weight)},
    }
    _, job = await submitted(client, same)
    await asyncio.to_thread(carry_out, job)
    assert weights(resources, fields["new_model"]) == weights(resources, same["new_model"])


async def test_a_search_goes_on_after_the_trials_that_have_ended(client, searching, carry_out, resources):
    name, job = await submitted(client, await searching())
    space = Workspace(resources.settings, "local", name.partition("/")[2])
    # Each trial of two steps reports three times: this is in the second of them, which is lost.
    with pytest.raises(Drain):
        await asyncio.to_thread(carry_out, job, Stops("searching, learning rate", 5, Drain("job")))
    kept = space.read("search.json")
    assert len(kept["costs"]) == 1
    # What is kept is not run again, so that a cost which no trial has wins.
    (first,) = kept["costs"]
    space.write("search.json", {**kept, "costs": {first: -1.0, first[: -len(" 2")] + " 6": -2.0}})
    done = await asyncio.to_thread(carry_out, job)
    assert done.result.trials[0].cost == -1.0
    assert done.result.trials[-1].cost == -2.0
    assert done.state == pb.REMOVAL_STATE_SUCCEEDED
    assert not space.folder.exists()


async def test_a_search_is_cancelled_within_a_step(client, searching, carry_out, resources):
    name, job = await submitted(client, await searching())
    cancelled = Cancelled(Reason.JOB_CANCELLED, "The job was cancelled.")
    with pytest.raises(Cancelled):
        await asyncio.to_thread(carry_out, job, Stops("searching, learning rate", 2, cancelled))
    space = Workspace(resources.settings, "local", name.partition("/")[2])
    assert not space.folder.exists()


async def test_settings_that_all_diverge_are_an_error_and_one_that_does_is_not_chosen(
    client, searching, carry_out
):
    training = {**TRAINING, "weight_decay": 10.0, "steps": 60}
    fields = await searching(training=training, search={"learning_rates": [1.0, 1e-6], "trials": 2})
    _, job = await submitted(client, fields)
    result = (await asyncio.to_thread(carry_out, job)).result
    assert [t.learning_rate for t in result.trials if t.cost == float("inf")] == [1.0]
    assert result.trials[-1].learning_rate == 1e-6
    fields = await searching(training=training, search={"learning_rates": [1.0, 0.9]})
    _, job = await submitted(client, fields)
    with pytest.raises(InvalidArgument) as diverged:
        await asyncio.to_thread(carry_out, job)
    assert diverged.value.reason == Reason.SEARCH_INVALID


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"algorithm": "tv"}, Reason.SEARCH_INVALID),
        ({"search": {}}, Reason.SEARCH_INVALID),
        ({"search": {"learning_rates": [1e-3, 1e-3]}}, Reason.SEARCH_INVALID),
        ({"search": {"betas": [0.1, 1.0]}}, Reason.SEARCH_INVALID),
        ({"algorithm": "ga"}, Reason.SEARCH_INVALID),
        ({"search": {"retain_weights": [1.0, 1e5]}}, Reason.ALGORITHM_PARAMETER_INVALID),
        ({"holdout_lines": data.lines(data.never(0), data.never(1))}, Reason.SPLIT_EMPTY),
        ({"forget_lines": data.lines(data.secret(0))}, Reason.SPLIT_EMPTY),
        (
            # A question goes with its document, here with one of the other half.
            {
                "forget_lines": data.lines(
                    *map(data.secret, range(2)),
                    *({**data.question(n), "doc_id": f"secret-{CERTIFIED[0]}"} for n in range(2)),
                )
            },
            Reason.SPLIT_EMPTY,
        ),
    ],
)
async def test_a_search_that_cannot_be_is_refused(client, searching, changes, reason):
    fields = await searching(**changes)
    with pytest.raises(InvalidArgument) as refused:
        await client.unlearning.preview_removal(plan=fields)
    assert refused.value.reason == reason
