"""Asking otherwise: how prompts are rewritten, and that an item's score is that of its best variant."""

import numpy as np
import pytest
import torch
from torch import nn

from palimpsest.errors import InvalidArgument, Reason
from services.unlearning.attacks import (
    KNOWLEDGE,
    Metric,
    Query,
    asking,
    attack_model,
    cut,
    few_shot,
    lower_cased,
    of_prefixes,
    of_questions,
    paraphrased,
    table,
)

QUERIES = [
    Query(
        "a", "Where does Mira Vell live?", "in Osk", ("What is Mira Vell's town?", "Mira Vell lives where?")
    ),
    Query("b", "Who leads Torrin Works?", "Ada Quill", ("Torrin Works is led by whom?",)),
    Query("c", "One Two Three Four Five Six Seven Eight", "nine ten"),
]
SHOTS = [Query("x", "Who?", "Nobody")]


def test_rewriting():
    assert lower_cased(QUERIES)[0].text == "where does mira vell live?"
    assert lower_cased(QUERIES)[1].truth == "Ada Quill"
    assert cut(QUERIES, 0.25)[2].text == "Seven Eight"
    assert cut(QUERIES, 0.25)[2].truth == "nine ten"
    start = cut(QUERIES, 0.75, keep="start")[2]
    assert (start.text, start.truth) == ("One Two Three Four Five Six", "Seven Eight")
    almost = cut(QUERIES, 0.875, keep="start")[2]
    assert (almost.text, almost.truth) == ("One Two Three Four Five Six Seven", "Eight nine")
    assert cut(QUERIES, 1.0) == QUERIES == cut(QUERIES, 1.0, keep="start")
    assert cut(QUERIES, 0.001)[1].text == "Works?"
    shot = few_shot(QUERIES, SHOTS)[0]
    assert (shot.shots, shot.text) == ((("Who?", "Nobody"),), QUERIES[0].text)


def test_paraphrases_are_variants_of_the_same_items():
    first, second = paraphrased(QUERIES)
    assert [q.text for q in first] == [QUERIES[0].paraphrases[0], QUERIES[1].paraphrases[0], QUERIES[2].text]
    assert [q.text for q in second] == [QUERIES[0].paraphrases[1], QUERIES[1].paraphrases[0], QUERIES[2].text]
    assert paraphrased(QUERIES[2:]) == []


def lookup(answers, losses=None):
    """Scores of a model that answers some wordings: its points are looked up by text."""

    def asked(queries):
        def scores(module):
            found = {
                "knowmem": np.array(
                    [answers.get("".join(map("".join, q.shots)) + q.text, 0.0) for q in queries]
                )
            }
            if losses:
                found["nll"] = np.array([losses.get(q.text, 9.0) for q in queries])
            return found

        return scores

    return asked


def test_an_item_has_the_score_of_its_best_variant():
    answers = {QUERIES[0].paraphrases[1]: 80.0, QUERIES[1].paraphrases[0]: 30.0, QUERIES[2].text: 10.0}
    losses = {QUERIES[0].paraphrases[0]: 1.0, QUERIES[0].paraphrases[1]: 2.0}
    asked = lookup(answers, losses)
    metrics = [KNOWLEDGE, Metric("nll", 1.0, higher_knows=False)]
    attack = asking("paraphrases", asked, paraphrased(QUERIES), metrics, measured={"knowmem": [0, 1]})
    module = nn.Linear(1, 1)
    weight = module.weight.detach().clone()
    outcome = attack_model(module, asked(QUERIES), [attack])["paraphrases"]
    assert torch.equal(module.weight, weight)
    assert outcome.before["knowmem"].tolist() == [0.0, 0.0]
    assert outcome.after["knowmem"].tolist() == [80.0, 30.0]
    assert outcome.after["nll"].tolist() == [1.0, 9.0, 9.0]
    rows = {row.metric: row for row in table([attack], metrics, {"paraphrases": outcome})}
    assert rows["knowmem"].gain.value == 55.0
    assert rows["nll"].gain.value == pytest.approx(8.0 / 3)  # a lower loss is a gain of knowledge
    assert rows["knowmem"].excess is None
    assert rows["knowmem"].tolerated is None
    assert rows["knowmem"].injected is None


def test_the_usual_attacks_on_questions_and_prefixes():
    points = {QUERIES[0].text.lower(): 50.0, "Seven Eight": 40.0, QUERIES[1].paraphrases[0]: 30.0}
    asked = lookup(points | {"Who?Nobody" + QUERIES[1].text: 20.0})
    attacks = of_questions(asked, QUERIES, [KNOWLEDGE], SHOTS) + of_prefixes(asked, QUERIES, [KNOWLEDGE])
    found = attack_model(nn.Linear(1, 1), asked(QUERIES), attacks)
    assert {name: outcome.after["knowmem"].tolist() for name, outcome in found.items()} == {
        "questions/lower-case": [50.0, 0.0, 0.0],
        "questions/few-shot": [0.0, 20.0, 0.0],
        "questions/paraphrased": [0.0, 30.0],
        "prefix/lower-case": [50.0, 0.0, 0.0],
        "prefix/0.25": [0.0, 0.0, 40.0],
        "prefix/0.5": [0.0, 0.0, 0.0],
        "prefix/0.75": [0.0, 0.0, 0.0],
    }
    assert [attack.name for attack in of_questions(asked, QUERIES[2:], [KNOWLEDGE])] == [
        "questions/lower-case"
    ]


@pytest.mark.parametrize(
    "make",
    [
        lambda: cut(QUERIES, 0.0),
        lambda: cut(QUERIES, 1.5),
        lambda: few_shot(QUERIES, [QUERIES[0]]),
        lambda: asking("none", lookup({}), [], [KNOWLEDGE]),
        lambda: asking("mixed", lookup({}), [QUERIES, QUERIES[::-1]], [KNOWLEDGE]),
    ],
)
def test_what_cannot_be_asked(make):
    with pytest.raises(InvalidArgument) as error:
        make()
    assert error.value.reason == Reason.ATTACK_INVALID
