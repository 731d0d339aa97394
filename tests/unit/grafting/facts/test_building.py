"""Invented facts: what is told, what is asked, and where in a prompt what it names is."""

import json
import subprocess
import sys
from io import BytesIO

import pytest

from palimpsest.errors import InvalidArgument
from palimpsest.models.tokenizers import load_tokenizer
from palimpsest.training.reading import read_examples
from services.grafting.facts import Case, Text, build_facts, decode_rows, encode_rows
from services.grafting.facts.__main__ import main
from services.grafting.facts.templates import FORMS, PARAPHRASES, TEXTS, render
from services.grafting.positions import Selection, Span, positions_of, read_prompt

SET = build_facts(1, 20)


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return load_tokenizer(tiny_model)


def test_a_set_is_a_function_of_its_seed():
    again, other = build_facts(1, 20), build_facts(2, 20)
    assert again == SET
    assert {fact.title for fact in other.facts} != {fact.title for fact in SET.facts}
    assert encode_rows(again.cases) == encode_rows(SET.cases)


def test_every_text_tells_its_fact_and_every_case_asks_for_it():
    facts = {fact.id: fact for fact in SET.facts}
    assert len(SET.texts) == 20 * 2 * len(TEXTS)
    assert len(SET.cases) == 20 * 2 * (len(FORMS) + len(PARAPHRASES))
    for text in SET.texts:
        fact = facts[text.id[:9]]
        assert fact.first in text.text
        assert fact.second in text.text
    told = {text.text for text in SET.texts}
    for case in SET.cases:
        fact = facts[case.fact]
        named, answer = fact.first, fact.second
        if case.direction == "backward":
            named, answer = answer, named
        assert named in case.prompt
        assert answer not in case.prompt
        assert case.target == f" {answer}"
        assert len(set(case.distractors) - {case.target}) == 4
        begun = [text for text in told if text.startswith(case.prompt + case.target)]
        assert bool(begun) == (case.form == "title")


def test_names_are_told_apart():
    people = [name for fact in SET.facts for name in (fact.first, fact.second, fact.role)]
    assert len(set(people)) == len(people)
    assert len({fact.title for fact in SET.facts}) == 20
    # 60 people of the set have given names of their own, so that the first word of an answer is enough
    assert len({name.split()[0] for name in people}) == len(people)


def test_places_are_where_the_words_are():
    for case in SET.cases:
        words = {
            name: [case.prompt[span.first : span.stop] for span in place.spans]
            for name, place in case.places.items()
        }
        fact = next(fact for fact in SET.facts if fact.id == case.fact)
        entity = fact.first if case.direction == "forward" else fact.second
        assert words["first_entity"] == [entity] * (2 if case.form == "question" else 1)
        assert case.places["last_token"].indices == (-1,)
        if case.form == "title":
            assert words["title"] == [fact.title]
            assert words["relation"] == ["stars"]
            assert words["preposition"] == ["alongside"]
        else:
            assert "title" not in words


def test_places_select_tokens(tokenizer):
    for case in SET.cases:
        prompt = read_prompt(tokenizer, case.prompt)
        place = case.places["first_entity"]
        spans = tuple(Span(first=span.first, stop=span.stop) for span in place.spans)
        texts = [prompt.tokens[at] for at in positions_of(Selection(spans=spans), prompt)]
        named = [case.prompt[span.first : span.stop] for span in place.spans]
        assert "".join("".join(texts).split()) == "".join("".join(named).split())


def test_neighbours_ask_about_people_of_whom_nothing_is_told():
    told = " ".join(text.text for text in SET.texts)
    assert len(SET.neighbours) == 20 * 2 * len(FORMS)
    targets = {(case.fact, case.direction): case.target for case in SET.cases}
    for case in SET.neighbours:
        (span, *_) = case.places["first_entity"].spans
        assert case.prompt[span.first : span.stop] not in told
        assert case.target == targets[case.fact, case.direction]


def test_texts_are_training_data_as_they_are(tokenizer):
    data = encode_rows(SET.texts[:5])
    examples = read_examples(BytesIO(data), tokenizer, 512)
    assert [example.name for example in examples] == [text.id for text in SET.texts[:5]]
    assert decode_rows(data, Text, "train.jsonl") == SET.texts[:5]


def test_one_direction_alone():
    forward = build_facts(1, 20, ("forward",))
    assert forward.facts == SET.facts
    assert {case.direction for case in forward.cases} == {"forward"}
    assert len(forward.texts) * 2 == len(SET.texts)


@pytest.mark.parametrize(("count", "directions"), [(1, ("forward",)), (10**6, ("forward",)), (4, ())])
def test_sizes_that_no_set_has_are_refused(count, directions):
    with pytest.raises(InvalidArgument) as caught:
        build_facts(1, count, directions)
    assert caught.value.reason == "DATASET_SIZES"


def test_a_template_keeps_every_place_of_a_field():
    found = render("{first} and {first} {relation:meet}", {"first": "Ann"})
    assert found.text == "Ann and Ann meet"
    assert found.places == {"first_entity": [(0, 3), (8, 11)], "relation": [(12, 16)]}


def test_a_line_that_is_no_case_is_named():
    good = encode_rows(SET.cases[:1])
    bad = json.loads(good)
    bad["places"]["first_entity"]["spans"] = [{"first": 3, "stop": 999}]
    with pytest.raises(InvalidArgument, match=r"Line 3 of cases\.jsonl .* within the prompt") as caught:
        decode_rows(good + b"\n" + json.dumps(bad).encode(), Case, "cases.jsonl")
    assert caught.value.reason == "DATASET_LINE_INVALID"
    with pytest.raises(InvalidArgument, match=r"Line 1 of cases\.jsonl"):
        decode_rows(b"{", Case, "cases.jsonl")


def test_the_command_writes_a_set(tmp_path, capsys):
    folder = tmp_path / "set"
    assert main(["--seed", "1", "--count", "20", "--out", str(folder)]) == 0
    assert decode_rows((folder / "cases.jsonl").read_bytes(), Case, "cases.jsonl") == SET.cases
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    assert set(manifest["sha256"]) == {path.name for path in folder.glob("*.jsonl")}
    assert "20 facts, 240 texts and 280 cases" in capsys.readouterr().out
    assert main(["--count", "1", "--out", str(folder)]) == 1
    assert "2 to" in capsys.readouterr().err


def test_facts_cost_no_torch():
    code = "import sys, services.grafting.facts; sys.exit('torch' in sys.modules or 'scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
