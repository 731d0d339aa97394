"""Files of other projects, and the lines of theirs that cannot be used."""

import json

import pytest

from palimpsest.errors import InvalidArgument, Reason
from services.unlearning.corpora import muse_documents, muse_questions, muse_verbatim, tofu_pairs


def test_lists_of_texts_become_documents():
    found = muse_documents(json.dumps(["One.", {"text": "Two."}]).encode(), "holdout", "news", "holdout.json")
    assert [(each.id, each.text, each.split) for each in found] == [
        ("holdout-00001", "One.", "holdout"),
        ("holdout-00002", "Two.", "holdout"),
    ]


def test_pairs_become_questions_and_cuts_become_prompts():
    (question,) = muse_questions(b'[{"question": "Who?", "answer": "She."}]', "forget", "qa.json")
    assert (question.question, question.answer, question.doc_id) == ("Who?", "She.", "")
    rows = [{"prompt": "Once", "gt": "upon"}, {"prompt": "a", "gt": "time", "rougeL_target": 1}]
    found = muse_verbatim(json.dumps(rows).encode(), "forget", "verbmem.json")
    assert [(each.prompt, each.gt) for each in found] == [("Once", "upon"), ("a", "time")]


@pytest.mark.parametrize("indent", [None, 0, 2])
def test_the_line_of_a_bad_item_is_named(indent):
    rows = [
        {"question": 'He said "[1, {2},\n3"?', "answer": "a\\"},
        {"question": "b", "answer": "b"},
        {"question": "b", "answer": 7},
        {"question": "b", "answer": "b"},
    ]
    text = json.dumps(rows, indent=indent)
    begins = 1 if indent is None else text[: text.index("7")].count("\n") - 1
    with pytest.raises(InvalidArgument) as raised:
        muse_questions(text.encode(), "forget", "qa.json")
    assert raised.value.reason == Reason.DATASET_LINE_INVALID
    assert raised.value.metadata == {"file": "qa.json", "line": str(begins)}
    assert "answer: Input should be a valid string" in raised.value.message


@pytest.mark.parametrize(("bad", "line"), [('""', 2), ("5", 2), ('{"text": "x", "label": 0}', 2)])
def test_a_text_that_is_none_is_named(bad, line):
    with pytest.raises(InvalidArgument, match=f"Line {line} of forget.json"):
        muse_documents(f'["fine",\n{bad},\n"fine"]'.encode(), "forget", "news", "forget.json")


@pytest.mark.parametrize("data", [b"{}", b"[", b'"text"', b"\xff"])
def test_what_is_no_list_is_refused(data):
    with pytest.raises(InvalidArgument) as raised:
        muse_documents(data, "forget", "news", "forget.json")
    assert raised.value.reason == Reason.DATASET_INVALID


def test_tofu_lines_become_pairs():
    rows = [
        {
            "question": "Where?",
            "answer": "Here.",
            "paraphrased_question": "In which spot?",
            "paraphrased_answer": "At this spot.",
            "perturbed_answer": ["There.", "Nowhere."],
        },
        {"question": "Who?", "answer": "A", "option1": "B", "option2": "A", "option3": "C", "option4": "D"},
        {"question": "When?", "answer": "Now."},
    ]
    found = tofu_pairs("\n".join(map(json.dumps, rows)).encode(), "forget01.json", author=2)
    assert [each.author for each in found] == ["author-0001", "author-0001", "author-0002"]
    assert found[0].perturbed_answers == ("There.", "Nowhere.")
    assert found[1].perturbed_answers == ("B", "C", "D")
    assert found[2].perturbed_answers == ()
    with pytest.raises(InvalidArgument, match=r"Line 2 of forget01\.json"):
        tofu_pairs(b'{"question": "a", "answer": "b"}\n{"question": "a"}\n', "forget01.json")
