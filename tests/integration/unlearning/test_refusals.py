"""What a plan must be, told by the call itself: before anything is recorded, and without a word of the texts."""

import json

import pytest

from palimpsest.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PalimpsestError,
    Reason,
)
from tests.integration.unlearning import data
from tests.tiny import write_tiny_model

BAD = [
    ({"algorithm": "alchemy"}, Reason.ALGORITHM_UNKNOWN),
    ({"algorithm": "whp"}, Reason.ALGORITHM_NOT_TRAINED),
    ({"algorithm": "shard_adapters"}, Reason.ALGORITHM_NOT_TRAINED),
    ({"algorithm": "retrain"}, Reason.START_REQUIRED),
    ({"algorithm": "retrain", "start": "tiny"}, Reason.START_INVALID),
    ({"algorithm": "undo", "start": "other"}, Reason.START_INVALID),
    ({"algorithm": "ga", "start": "other"}, Reason.START_INVALID),
    ({"algorithm": "bad_teaching"}, Reason.ALGORITHM_INPUT_MISSING),
    ({"algorithm": "bad_teaching", "teacher": "tiny"}, Reason.REFERENCE_INVALID),
    ({"algorithm": "ga", "teacher": "other"}, Reason.REFERENCE_INVALID),
    ({"algorithm": "ga", "replay": {"keep": 3}}, Reason.INVALID_REQUEST),
    ({"replay": {"tokens": 2, "prompt": 2}}, Reason.INVALID_REQUEST),
    ({"replay": {}, "search": {"learning_rates": [1, 0.1]}}, Reason.INVALID_REQUEST),
    ({"algorithm": "retrain", "start": "other", "retain": ""}, Reason.RETAIN_REQUIRED),
    (
        {"algorithm": "retrain", "start": "other", "stopping": {"rule": "holdout_match"}},
        Reason.INVALID_REQUEST,
    ),
    (
        {"algorithm": "retrain", "start": "other", "search": {"learning_rates": [1, 0.1]}},
        Reason.SEARCH_INVALID,
    ),
    ({"parameters": {"beta": "0.1"}}, Reason.ALGORITHM_PARAMETER_INVALID),
    ({"parameters": {"alpha": "-1"}}, Reason.ALGORITHM_PARAMETER_INVALID),
    ({"retain": ""}, Reason.RETAIN_REQUIRED),
    ({"forget_lines": b"\n"}, Reason.FORGET_SET_EMPTY),
    ({"forget_lines": b'{"id": "a", "words": "x"}\n'}, Reason.DATASET_LINE_INVALID),
    ({"forget_lines": data.lines(data.secret(0), data.secret(0))}, Reason.DATASET_LINE_INVALID),
    ({"new_model": "tiny"}, Reason.INVALID_REQUEST),
    ({"references": ["tiny"]}, Reason.REFERENCE_INVALID),
    ({"stopping": {"rule": "forget_match"}}, Reason.REFERENCE_REQUIRED),
    ({"stopping": {"rule": "holdout_match"}, "holdout": ""}, Reason.INVALID_REQUEST),
    ({"training": {"sequence_tokens": 4096}}, Reason.INVALID_REQUEST),
    ({"training": {"learning_rate": 2.0}}, Reason.INVALID_REQUEST),
]


@pytest.mark.parametrize(("changes", "reason"), BAD)
async def test_a_bad_plan_is_refused_by_reason(client, plan, changes, reason):
    fields = await plan(**changes)
    with pytest.raises(InvalidArgument) as refused:
        await client.unlearning.create_removal_request(plan=fields)
    assert refused.value.reason == reason
    assert not any(word in str(refused.value) for word in data.SECRETS)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "none"}, Reason.MODEL_NOT_FOUND),
        ({"references": ["none"]}, Reason.MODEL_NOT_FOUND),
        ({"forget": "sha256:" + "0" * 64}, Reason.ARTIFACT_NOT_FOUND),
        ({"corpora": [{"corpus": "corpora/none", "documents": ["a"]}]}, Reason.CORPUS_NOT_FOUND),
        ({"ngram_stores": ["ngramStores/none"]}, Reason.NGRAM_STORE_NOT_FOUND),
        ({"contexts": ["contexts/none"]}, Reason.CONTEXT_NOT_FOUND),
    ],
)
async def test_what_is_named_must_be_there(client, plan, changes, reason):
    with pytest.raises(NotFound) as missing:
        await client.unlearning.create_removal_request(plan=await plan(**changes))
    assert missing.value.reason == reason


async def test_a_taken_model_id_and_a_reference_of_another_tokenizer(client, plan, resources, tmp_path):
    with pytest.raises(AlreadyExists) as taken:
        await client.unlearning.create_removal_request(plan=await plan(new_model="other"))
    assert taken.value.reason == Reason.MODEL_EXISTS

    from palimpsest.models import register
    from palimpsest.progress import NullProgress

    folder = write_tiny_model(tmp_path / "foreign")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["merges"].pop()
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    register("foreign", str(folder), resources.models, resources.settings, NullProgress())
    with pytest.raises(FailedPrecondition) as mismatch:
        await client.unlearning.create_removal_request(plan=await plan(references=["foreign"]))
    assert mismatch.value.reason == Reason.TOKENIZER_MISMATCH


async def test_what_is_in_both_sets_is_listed_by_id_and_refused(client, plan):
    copied = {**data.secret(3), "id": "copy"}
    fields = await plan(retain_lines=data.lines(data.kept(0), copied))
    preview = await client.unlearning.preview_removal(plan=fields)
    assert [(o.forget, o.retain, o.share) for o in preview.overlaps] == [("secret-3", "copy", 1.0)]
    with pytest.raises(InvalidArgument) as refused:
        await client.unlearning.create_removal_request(plan=fields)
    assert refused.value.reason == Reason.FORGET_RETAIN_OVERLAP
    assert json.loads(refused.value.metadata["overlaps"]) == [["secret-3", "copy"]]
    assert not any(word in str(refused.value) for word in data.SECRETS)


@pytest.mark.parametrize(
    ("other", "entry", "reason"),
    [
        ("forget", data.secret(2), Reason.FORGET_HOLDOUT_OVERLAP),
        ("retain", data.kept(2), Reason.HOLDOUT_RETAIN_OVERLAP),
    ],
)
async def test_a_holdout_set_that_was_seen_is_listed_and_refused(client, plan, other, entry, reason):
    fields = await plan(holdout_lines=data.lines(data.never(0), {**entry, "id": "copy"}))
    preview = await client.unlearning.preview_removal(plan=fields)
    pairs = [(o.holdout, o.set, o.other, o.share) for o in preview.holdout_overlaps]
    assert pairs == [("copy", other, entry["id"], 1.0)]
    assert preview.holdout_overlap_count == 1
    with pytest.raises(InvalidArgument) as refused:
        await client.unlearning.create_removal_request(plan=fields)
    assert refused.value.reason == reason
    assert json.loads(refused.value.metadata["overlaps"]) == [["copy", entry["id"]]]
    assert not any(word in str(refused.value) for word in data.SECRETS)


async def test_lengths_that_tell_the_holdout_set_apart_are_told_and_not_refused(client, plan):
    alike = await client.unlearning.preview_removal(
        plan=await plan(holdout_lines=data.lines(*map(alien, range(6))))
    )
    assert alike.lengths.matched
    long = [{"id": f"long-{n}", "text": f"{alien(n)['text']} {alien(n + 6)['text']}"} for n in range(6)]
    fields = await plan(holdout_lines=data.lines(*long))
    preview = await client.unlearning.preview_removal(plan=fields)
    assert preview.lengths.p_value < 0.1
    assert not preview.lengths.matched
    await client.unlearning.create_removal_request(plan=fields, hold=True)
    without = await client.unlearning.preview_removal(plan=await plan(holdout=""))
    assert not without.HasField("lengths")


def alien(number: int) -> dict:
    """A text as long as a secret, its words in another order."""
    words = data.secret(number % 6)["text"].split()
    return {"id": f"alien-{number}", "text": " ".join(reversed(words))}


async def test_a_preview_counts_and_records_nothing(client, plan):
    fields = await plan(parameters={"alpha": "2.5"})
    before = (await client.unlearning.list_removal_requests()).removal_requests
    preview = await client.unlearning.preview_removal(plan=fields)
    assert (preview.forget.documents, preview.forget.questions) == (6, 2)
    assert preview.forget.tokens > 6 * 20
    assert preview.retain.documents == preview.holdout.documents == 6
    assert not preview.utility.artifact
    assert preview.steps == 3
    assert preview.training_tokens > 0
    assert preview.parameters["alpha"] == "2.5"
    assert (await client.unlearning.list_removal_requests()).removal_requests == before


async def test_the_same_key_is_the_same_request_and_other_content_is_not(client, plan):
    fields = await plan()
    first = await client.unlearning.create_removal_request(plan=fields, request_id="key-1", hold=True)
    again = await client.unlearning.create_removal_request(plan=fields, request_id="key-1", hold=True)
    assert again.name == first.name
    with pytest.raises(AlreadyExists) as other:
        await client.unlearning.create_removal_request(
            plan={**fields, "algorithm": "npo_gdr"}, request_id="key-1"
        )
    assert other.value.reason == Reason.REMOVAL_EXISTS
    named = await client.unlearning.create_removal_request(plan=fields, removal_id="named", hold=True)
    assert named.name != first.name
    with pytest.raises(AlreadyExists):
        await client.unlearning.create_removal_request(
            plan={**fields, "new_model": "yet-another"}, removal_id="named"
        )
    listed = (await client.unlearning.list_removal_requests()).removal_requests
    assert sum(each.operation == first.name for each in listed) == 1


async def test_a_name_that_is_not_there(client):
    for call in ("get_removal_request", "hold_removal_request", "approve_removal_request", "get_certificate"):
        with pytest.raises(PalimpsestError) as missing:
            await getattr(client.unlearning, call)(name="removalRequests/none")
        assert missing.value.reason == Reason.REMOVAL_NOT_FOUND
