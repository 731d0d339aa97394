"""What earlier requests removed is looked for again, and what has come back is told."""

import asyncio
import itertools
import json
import math
from pathlib import Path

import pytest

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.errors import DataLoss, FailedPrecondition, InvalidArgument, Reason
from palimpsest.models import register
from palimpsest.progress import Drain, NullProgress
from services.unlearning.removal import earlier
from services.unlearning.requests.history import past_of
from services.unlearning.requests.records import RemovalCatalogue
from services.unlearning.workspace import Workspace
from tests.integration.unlearning import data
from tests.integration.unlearning.test_requests import Stops, submitted

REMOVING = {"steps": 30, "learning_rate": 1e-3, "batch": 8}
SEEDS = itertools.count()
"""Each run has its own: equal ones would make the same weights, and be one request of a model's past."""


@pytest.fixture
def removed(client, plan, carry_out, taught):
    """Carry a request out on a model; returns its name and result."""

    async def run(model: str, *secrets: int, retain: bytes = data.RETAIN, **changes):
        training = {**changes.pop("training", REMOVING), "seed": next(SEEDS)}
        fields = await plan(
            model=model,
            forget_lines=data.lines(*map(data.secret, secrets)),
            retain_lines=retain,
            training=training,
            **{"parameters": {"alpha": "3"}, "holdout": "", **changes},
        )
        name, job = await submitted(client, fields)
        done = await asyncio.to_thread(carry_out, job)
        return name, done.result, fields["new_model"]

    return run


async def rechecks(client, name: str) -> tuple[list[dict], str]:
    """What a certificate says of earlier requests, and its outcome."""
    found = await client.unlearning.get_certificate(name=name)
    statement = json.loads(found.certificate)["statement"]
    return statement["earlier_requests"], statement["outcome"]


async def test_what_comes_back_is_told_and_is_no_removal(client, removed):
    """The second request's retain set teaches what the first removed."""
    first, one, made = await removed("knows", 0, 1, 2)
    assert not one.earlier_requests
    (then,) = one.recheck
    after = next(m for m in one.measurements if (m.metric, m.model) == ("verbmem", "after"))
    assert (then.metric, then.value, then.count) == ("verbmem", pytest.approx(after.value), 3)
    again = data.lines(*({**data.secret(n), "id": f"again-{n}"} for n in range(3)))
    teaching = {"steps": 80, "learning_rate": 3e-3, "batch": 8}
    second, two, _ = await removed(
        made, 4, retain=again, training=teaching, parameters={"alpha": "20"}, references=["never"]
    )
    (seen,) = two.earlier_requests
    assert (seen.name, seen.metric, seen.items, seen.skipped) == (first, "verbmem", 3, "")
    assert seen.then == then.value
    assert seen.now > seen.then + 10
    assert seen.reemerged
    assert two.verdict in (pb.VERDICT_PARTLY_REMOVED, pb.VERDICT_NOT_REMOVED)
    (stated,), outcome = await rechecks(client, second)
    assert (stated["request"], stated["metric"]) == (first.partition("/")[2], "verbmem")
    assert float(stated["now"]) == pytest.approx(seen.now)
    assert (stated["verdict"], outcome != "succeeded") == ("failed", True)
    listed = (await client.unlearning.list_removal_requests(page_size=1000)).removal_requests
    assert not any(each.result.earlier_requests or each.result.recheck for each in listed)


async def test_what_stays_away_passes_and_what_is_gone_is_said(client, removed):
    first, _, made = await removed("knows", 0, 1)
    gone, _, made = await removed(made, 2, delete_forget_set=True)
    third, three, _ = await removed(made, 3)
    assert [each.name for each in three.earlier_requests] == [gone, first]
    deleted, kept = three.earlier_requests
    assert (deleted.skipped, deleted.HasField("now"), deleted.reemerged) == ("data_set_deleted", False, False)
    assert (kept.skipped, kept.HasField("now"), kept.reemerged) == ("", True, False)
    stated, outcome = await rechecks(client, third)
    assert [each["verdict"] for each in stated] == ["not_measured", "passed"]
    assert (stated[0]["now"], float(stated[0]["then"])) == (None, pytest.approx(deleted.then))
    assert outcome != "succeeded"
    # On a branch of its own, the model knows what the others removed, and no request of its past is among them.
    _, aside, _ = await removed("knows", 5)
    assert not aside.earlier_requests
    assert aside.other_requests >= 3


async def test_earlier_requests_are_bounded_and_an_attempt_goes_on(
    client, plan, carry_out, removed, resources, monkeypatch
):
    first, _, made = await removed("knows", 0)
    second, _, made = await removed(made, 1)
    third, _, made = await removed(made, 2)
    monkeypatch.setattr(earlier, "MOST_EARLIER", 2)
    fields = await plan(model=made, forget_lines=data.lines(data.secret(3)))
    assert (await client.unlearning.preview_removal(plan=fields)).earlier_requests == 3
    name, job = await submitted(client, fields)
    with pytest.raises(Drain):
        await asyncio.to_thread(carry_out, job, Stops("measuring earlier", 2, Drain("job")))
    space = Workspace(resources.settings, "local", name.partition("/")[2])
    known = space.read("earlier.json")
    assert list(known) == [third.partition("/")[2]]
    space.write("earlier.json", {removal_id: {"verbmem": 99.5} for removal_id in known})
    done = await asyncio.to_thread(carry_out, job)
    found = {each.name: each for each in done.result.earlier_requests}
    assert list(found) == [third, second, first]
    assert found[third].now == 99.5  # measured once in all attempts
    assert found[second].HasField("now")
    assert found[first].skipped == "too_many"


async def test_an_attempt_that_ends_in_the_middle_measures_the_model_that_it_makes_again(
    client, plan, carry_out, removed, resources
):
    _, _, made = await removed("knows", 0)
    name, job = await submitted(client, await plan(model=made, forget_lines=data.lines(data.secret(3))))
    damaged = DataLoss(Reason.CHECKPOINT_DAMAGED, "Damaged.")  # a full disk would keep everything
    with pytest.raises(DataLoss):
        await asyncio.to_thread(carry_out, job, Stops("attacking", 1, damaged))
    assert Workspace(resources.settings, "local", name.partition("/")[2]).read("earlier.json") is None
    done = await asyncio.to_thread(carry_out, job)
    assert len(done.result.earlier_requests) == 1


async def test_the_past_is_the_callers_own_and_outlives_a_copy_without_parents(removed, resources):
    first, _, one = await removed("knows", 0)
    second, _, two = await removed(one, 1)
    requests = RemovalCatalogue(resources.redis, resources.settings.redis_prefix)
    models = resources.models
    copy = Path(models.get(two).path)
    own = register(f"{two}-copy", str(copy), models, resources.settings, NullProgress())
    for model in (models.get(two), own):
        past = past_of(requests, "local", models, model)
        assert [each.message.name for each in past.requests] == [second, first]
    assert past.others == ()  # the copy is a lineage of its own
    assert past_of(requests, "nobody", models, own).requests == ()
    assert past_of(requests, "local", models, models.get("knows")).requests == ()


async def test_removals_that_cost_too_much_together_come_to_an_end(client, plan, removed, carry_out):
    # Decay takes a fifth of all weights; what is memorised well has too little gradient to do harm.
    ruinous = {"steps": 4, "learning_rate": 1e-2, "batch": 8, "weight_decay": 5.0}
    _, one, first = await removed(
        "knows", 0, training=ruinous, algorithm="ga", parameters={}, utility_budget=1e4
    )
    _, two, second = await removed(first, 1, training=ruinous, algorithm="ga", parameters={})
    assert one.utility_loss > 5
    assert one.total_utility_loss == one.utility_loss
    assert two.total_utility_loss == pytest.approx(one.utility_loss + two.utility_loss)
    assert (
        one.utility_budget == two.utility_budget == 1e4
    )  # what the first said holds until another says otherwise
    perplexities = [
        {m.model: m.value for m in each.measurements if m.metric == "perplexity"} for each in (one, two)
    ]
    whole = 100 * math.log(perplexities[1]["after"] / perplexities[0]["before"])
    assert two.total_utility_loss == pytest.approx(whole, rel=1e-3)
    fields = await plan(model=second, utility_budget=two.total_utility_loss - 1)
    for call in (client.unlearning.preview_removal, client.unlearning.create_removal_request):
        with pytest.raises(FailedPrecondition) as refused:
            await call(plan=fields)
        assert refused.value.reason == Reason.UTILITY_BUDGET_EXHAUSTED
        assert "shard" in refused.value.message
    wider = {**fields, "utility_budget": two.total_utility_loss + 1}
    preview = await client.unlearning.preview_removal(plan=wider)
    assert preview.total_utility_loss == pytest.approx(two.total_utility_loss)
    assert preview.utility_budget == wider["utility_budget"]
    again = {**fields, "algorithm": "retrain", "start": "tiny", "parameters": {}}
    await client.unlearning.preview_removal(plan=again)  # what the refusal says to do
    # What it was before the first removal has lost nothing.
    await client.unlearning.preview_removal(plan={**fields, "model": "knows", "utility_budget": 1e-3})
    with pytest.raises(InvalidArgument):
        await client.unlearning.preview_removal(
            plan={**wider, "retain": "", "algorithm": "ga", "parameters": {}}
        )
