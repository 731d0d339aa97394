"""Attacks that a plan chooses: what they find, what they could not measure, and what the certificate says of both."""

import asyncio
import json

import pytest

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.errors import InvalidArgument, NotFound, Reason
from palimpsest.jobs import JobStore
from services.unlearning.removal.attack_plan import DEFAULT
from tests.integration.unlearning import data
from tests.integration.unlearning.test_requests import submitted


def question(number: int) -> dict:
    """About a document, with another form."""
    about = {"doc_id": f"secret-{number}", "paraphrases": [f"What opens the vault of {data.PLACES[number]}?"]}
    return {**data.question(number), **about}


def solved(number: int) -> dict:
    return {
        "id": f"solved-{number}",
        "question": f"How many dogs does fox {number} jump over?",
        "answer": str(number),
    }


QUESTIONS = data.lines(*map(data.secret, range(6)), *map(question, range(6)))
KEPT = data.lines(*map(data.kept, range(6)), *map(solved, range(6)))


async def statement(client, name: str) -> dict:
    found = await client.unlearning.get_certificate(name=name)
    return json.loads(found.certificate)["statement"]


SOME = (
    "int4/128", "Q4_0", "bfloat16", "relearn/retain", "relearn/part", "questions/few-shot", "questions/paraphrased",
    "prefix/lower-case", "prefix/0.5", "sampling",
)  # fmt: skip
"""One of each kind."""


async def test_attacks_of_every_kind_are_run_on_every_model(client, plan, carry_out):
    attacks = {"names": SOME, "steps": 2, "samples": 2, "seed": 3, "never_knew": "other"}
    training = {"steps": 2, "learning_rate": 1e-4, "batch": 4}
    fields = await plan(forget_lines=QUESTIONS, retain_lines=KEPT, attacks=attacks, training=training)
    assert tuple((await client.unlearning.preview_removal(plan=fields)).attacks) == SOME
    name, job = await submitted(client, fields)
    done = await asyncio.to_thread(carry_out, job)
    rows = {(row.attack, row.metric): row for row in done.result.attacks}
    assert {attack.replace("sampling/2", "sampling") for attack, _ in rows} == set(SOME)
    assert all(not row.not_measured and row.HasField("injected") for row in rows.values()), rows
    stored = {"int4/128", "Q4_0", "bfloat16"}
    assert all(
        row.precision == (attack if attack in stored else "float32") for (attack, _), row in rows.items()
    )
    # Of six documents with a question each, one was relearned with its question.
    assert [rows["relearn/part", metric].items for metric in ("verbmem", "knowmem")] == [5, 5]
    assert rows["relearn/retain", "verbmem"].items == 6
    found = await statement(client, name)
    assert set(found["attacks"]["precisions"]) == {"float32", *stored}
    assert found["method"]["configuration"]["attack_settings"]["seed"] == 3


async def test_a_plan_without_attacks_has_those_of_the_default(client, plan):
    preview = await client.unlearning.preview_removal(plan=await plan())
    assert tuple(preview.attacks) == DEFAULT
    preview = await client.unlearning.preview_removal(plan=await plan(algorithm="ga", retain=""))
    assert tuple(preview.attacks) == DEFAULT[:2]
    preview = await client.unlearning.preview_removal(plan=await plan(attacks={"steps": 7}))
    assert tuple(preview.attacks) == DEFAULT


async def test_an_attack_that_diverges_fails_no_request(client, plan, carry_out, resources):
    """After hours of training, on every attempt, it would fail again."""
    attacks = {"names": ["int8/32", "relearn/retain"], "learning_rate": 1.0, "steps": 20}
    name, job = await submitted(client, await plan(attacks=attacks, references=["other"]))
    done = await asyncio.to_thread(carry_out, job)
    assert done.state == pb.REMOVAL_STATE_SUCCEEDED
    rows = {row.attack: row for row in done.result.attacks if row.metric == "verbmem"}
    diverged = rows["relearn/retain"]
    assert {(each.model, each.reason) for each in diverged.not_measured} == {
        ("after", Reason.TRAINING_DIVERGED), ("other", Reason.TRAINING_DIVERGED),
    }  # fmt: skip
    assert "learning rate" in diverged.not_measured[0].message
    assert (diverged.failed, diverged.recovered, diverged.items) == (False, False, 0)
    assert not diverged.HasField("tolerated")
    assert not rows["int8/32"].not_measured
    found = await statement(client, name)
    verdicts = {each["name"]: each["verdict"] for each in found["attacks"]["results"]}
    assert verdicts["relearn/retain"] == "not_measured"
    assert verdicts["int8/32"] in ("passed", "failed")
    # Nothing was measured with the weights as they are, so that nothing is said of these.
    assert found["attacks"]["precisions"] == ["int8/32"]
    assert found["outcome"] != "succeeded"
    assert JobStore(resources.redis, resources.settings).get(job.removeprefix("operations/")) is not None


async def test_what_is_left_after_near_duplicates_may_be_too_little(client, plan, carry_out):
    """Two documents, of which one is relearned: from the other alone nothing can be concluded."""
    two = data.lines(data.secret(0), data.secret(1))
    _, job = await submitted(
        client, await plan(forget_lines=two, attacks={"names": ["relearn/part", "int4/32"]})
    )
    done = await asyncio.to_thread(carry_out, job)
    rows = {row.attack: row for row in done.result.attacks}
    assert [each.reason for each in rows["relearn/part"].not_measured] == [Reason.ATTACK_INVALID]
    assert not rows["int4/32"].not_measured


@pytest.mark.parametrize(
    ("attacks", "changes", "reason"),
    [
        ({"names": ["alchemy"]}, {}, Reason.INVALID_REQUEST),
        ({"names": ["int4/32", "int4/32"]}, {}, Reason.INVALID_REQUEST),
        ({"names": ["relearn/retain"]}, {"algorithm": "ga", "retain": ""}, Reason.ATTACK_INVALID),
        ({"names": ["relearn/part"]}, {"forget_lines": data.lines(data.secret(0))}, Reason.ATTACK_INVALID),
        ({"names": ["questions/few-shot"]}, {}, Reason.ATTACK_INVALID),
        ({"names": ["questions/paraphrased"]}, {"retain_lines": KEPT}, Reason.ATTACK_INVALID),
        (
            {"names": ["prefix/0.5"]},
            {"forget_lines": data.lines(*map(question, range(3)))},
            Reason.ATTACK_INVALID,
        ),
        (
            {"names": ["sampling"]},
            {"forget_lines": data.lines(*map(question, range(3)))},
            Reason.ATTACK_INVALID,
        ),
        (
            {"names": ["questions/lower-case"]},
            {"forget_lines": data.lines(data.secret(0))},
            Reason.ATTACK_INVALID,
        ),
        ({"never_knew": "tiny"}, {}, Reason.REFERENCE_INVALID),
        ({"learning_rate": 1.5}, {}, Reason.INVALID_REQUEST),
    ],
    ids=str,
)
async def test_attacks_without_what_they_work_on_are_refused(client, plan, attacks, changes, reason):
    fields = await plan(attacks=attacks, **changes)
    for call in (client.unlearning.preview_removal, client.unlearning.create_removal_request):
        with pytest.raises(InvalidArgument) as refused:
            await call(plan=fields)
        assert refused.value.reason == reason
        assert refused.value.violations[0].field.startswith("plan.attacks")
        assert not any(word in str(refused.value) for word in data.SECRETS)


async def test_unrelated_text_is_the_callers_own_and_tells_of_nothing(client, plan, carry_out):
    names = ["relearn/unrelated"]
    told = await client.artifacts.upload(data.lines(*map(data.secret, range(2))))
    other = (await client.artifacts.upload(data.HOLDOUT)).digest
    for attacks, reason in (
        ({"names": names, "unrelated": told.digest}, Reason.ATTACK_INVALID),
        ({"names": ["int4/32"], "unrelated": other}, Reason.ATTACK_INVALID),
    ):
        fields = await plan(attacks=attacks)
        with pytest.raises(InvalidArgument) as refused:
            await client.unlearning.preview_removal(plan=fields)
        assert refused.value.reason == reason
    missing = await plan(attacks={"names": names, "unrelated": "sha256:" + "0" * 64})
    with pytest.raises(NotFound):
        await client.unlearning.preview_removal(plan=missing)
    _, job = await submitted(client, await plan(attacks={"names": names, "unrelated": other, "steps": 2}))
    done = await asyncio.to_thread(carry_out, job)
    assert [row.attack for row in done.result.attacks] == names * 2
