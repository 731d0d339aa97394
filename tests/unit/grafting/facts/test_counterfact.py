"""CounterFact's JSON as cases; what cannot be used is an error with its line, and never left out."""

import copy
import json

import pytest

from palimpsest.errors import InvalidArgument
from services.grafting.facts import counterfact_cases

RECORD = {
    "case_id": 7,
    "pararel_idx": 2796,
    "requested_rewrite": {
        "prompt": "The mother tongue of {} is",
        "relation_id": "P103",
        "target_new": {"str": "Basque", "id": "Q1860"},
        "target_true": {"str": "Welsh", "id": "Q150"},
        "subject": "Ada Prys",
    },
    "paraphrase_prompts": [
        "It rained. Ada Prys spoke",
        "Ada Prys, whose sister is Ada Prys, was born to speak ",
    ],
    "neighborhood_prompts": ["Owen Rhys was a native speaker of"],
    "attribute_prompts": ["whatever"],
}


def changed(**values):
    record = copy.deepcopy(RECORD) | {"case_id": 8}
    for path, value in values.items():
        *parts, last = path.split("__")
        place = record
        for part in parts:
            place = place[part]
        place[last] = value
    return record


def test_a_record_becomes_a_case_for_each_prompt():
    rewrite, first, second, neighbour = counterfact_cases(json.dumps([RECORD]).encode(), "facts.json")
    assert rewrite.prompt == "The mother tongue of Ada Prys is"
    assert {case.target for case in (rewrite, first, second, neighbour)} == {" Basque"}
    assert {case.base_answer for case in (rewrite, first, second, neighbour)} == {" Welsh"}
    assert [case.form for case in (rewrite, first, second, neighbour)] == [
        "rewrite",
        "paraphrase",
        "paraphrase",
        "neighborhood",
    ]
    for case in (rewrite, first, second):
        (span,) = case.places["first_entity"].spans
        assert case.prompt[span.first : span.stop] == "Ada Prys"
    assert second.prompt.endswith("speak")
    assert second.places["first_entity"].spans[0].first == 26  # the last mention: text before it is another's
    assert set(neighbour.places) == {"last_token"}
    assert len({case.id for case in (rewrite, first, second, neighbour)}) == 4


def test_a_list_and_json_lines_are_the_same():
    records = [RECORD, changed()]
    as_list = counterfact_cases(json.dumps(records, indent=2).encode(), "facts.json")
    as_lines = counterfact_cases("\n".join(map(json.dumps, records)).encode(), "facts.jsonl")
    assert as_list == as_lines
    assert len(as_list) == 8


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (changed(requested_rewrite__prompt="The mother tongue is"), "must have {} once"),
        (changed(requested_rewrite__subject=""), "requested_rewrite.subject"),
        (changed(requested_rewrite__target_new={"id": "Q1"}), "requested_rewrite.target_new.str"),
        (changed(paraphrase_prompts=["Somebody spoke"]), "paraphrase_prompts.0 does not name the subject"),
        (changed(neighborhood_prompts=["", "x"]), "neighborhood_prompts.0 is empty"),
        (changed(case_id=7), "case_id 7 is that of line"),
        (changed(paraphrase_prompts="Ada Prys"), "paraphrase_prompts"),
        ("no record", "the row"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_line(record, problem):
    text = "[\n" + json.dumps(RECORD, indent=1) + "\n,\n\n" + json.dumps(record, indent=1) + "]"
    line = 2 + json.dumps(RECORD, indent=1).count("\n") + 3
    with pytest.raises(InvalidArgument) as caught:
        counterfact_cases(text.encode(), "facts.json")
    assert caught.value.reason == "DATASET_LINE_INVALID"
    assert f"Line {line} of facts.json" in caught.value.message
    assert problem in caught.value.message
    with pytest.raises(InvalidArgument, match=r"Line 3 of facts\.jsonl"):
        counterfact_cases(f"{json.dumps(RECORD)}\n\n{json.dumps(record)}\n".encode(), "facts.jsonl")


@pytest.mark.parametrize("data", [b"", b"[]", b"[1, 2", b"[{}] x"])
def test_what_is_no_list_of_records_is_refused(data):
    with pytest.raises(InvalidArgument) as caught:
        counterfact_cases(data, "facts.json")
    assert caught.value.reason == "DATASET_INVALID"
