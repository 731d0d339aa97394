"""Attacks scored by the metrics of a removal, on models that know documents and facts."""

from dataclasses import replace

import numpy as np
import pytest

from services.unlearning.attacks import (
    KNOWLEDGE,
    VERBATIM,
    Query,
    attack_model,
    of_prefixes,
    of_questions,
    quantisation,
    table,
)
from services.unlearning.attacks.measuring import knowledge, sampled_continuations, scores_of, verbatim
from services.unlearning.attacks.quantisation import round_to_nearest
from services.unlearning.metrics import knowledge_memory, verbatim_memory
from tests.unit.unlearning.metrics import fact_models

TOKENS = {"max_new_tokens": 16}


@pytest.fixture(scope="module")
def world():
    tokenizer = fact_models.make_tokenizer()
    facts = fact_models.make_facts(tokenizer, 8, seed=1)
    examples = fact_models.examples_of(tokenizer, [facts])
    blank = fact_models.new_model(tokenizer)
    return (
        tokenizer,
        facts,
        fact_models.trained(blank, examples, steps=100, seed=0, learning_rate=5e-3),
        blank,
    )


def test_attacks_take_the_metrics_as_they_are(world):
    tokenizer, facts, knows, blank = world
    prefixes = [Query(each.id, each.prompt, each.truth) for each in facts.prompts]
    questions = [
        Query(each.id, each.question.upper(), each.answer, paraphrases=(each.question,))
        for each in facts.pairs
    ]
    template = fact_models.TEMPLATE
    shots = [replace(questions[0], item="another")]
    asked_verbatim = verbatim(tokenizer, **TOKENS)
    asked_knowledge = knowledge(tokenizer, template=template, max_new_tokens=4)
    scores = scores_of(
        lambda module: verbatim_memory(module, tokenizer, facts.prompts, **TOKENS),
        lambda module: knowledge_memory(
            module,
            tokenizer,
            [replace(each, question=each.question.upper()) for each in facts.pairs],
            template=template,
            max_new_tokens=4,
        ),
    )
    found = scores(knows)
    assert np.array_equal(found["verbmem"], asked_verbatim(prefixes)(knows)["verbmem"])
    assert np.array_equal(found["knowmem"], asked_knowledge(questions)(knows)["knowmem"])
    assert found["verbmem"].mean() > 80

    attacks = [
        quantisation(round_to_nearest(8, 32)),
        *of_prefixes(asked_verbatim, prefixes, [VERBATIM]),
        *of_questions(asked_knowledge, questions, [KNOWLEDGE], shots),
        sampled_continuations(tokenizer, knows, prefixes, samples=2, **TOKENS),
    ]
    outcomes = [attack_model(module, scores, attacks) for module in (knows, blank)]
    rows = {
        (row.attack, row.metric): row
        for row in table(attacks, [VERBATIM, KNOWLEDGE], outcomes[0], [], outcomes[1])
    }
    assert not rows["int8/32", "verbmem"].recovered
    assert abs(rows["int8/32", "verbmem"].gain.value) < 5
    # Asked in capitals, which are no words to it, the model knows little; in the wording it was taught, everything.
    paraphrased = rows["questions/paraphrased", "knowmem"]
    assert paraphrased.before < 40
    assert paraphrased.after > 80
    assert paraphrased.recovered
    assert ("prefix/0.5", "knowmem") not in rows
    assert rows["prefix/0.25", "verbmem"].after <= rows["prefix/lower-case", "verbmem"].after + 1e-9
    assert rows["sampling/2", "verbmem"].after > 80
    assert {attack for attack, _ in rows} == {attack.name for attack in attacks}


def test_shots_are_put_by_the_template(world):
    tokenizer, facts, knows, _ = world
    pair = facts.pairs[0]
    query = Query(pair.id, pair.question, pair.answer, shots=(("a b", "c"),))
    asked = knowledge(tokenizer, template=fact_models.TEMPLATE, max_new_tokens=4)
    expected = knowledge_memory(
        knows,
        tokenizer,
        [replace(pair, examples=(("a b", "c"),))],
        template=fact_models.TEMPLATE,
        max_new_tokens=4,
    )
    assert asked([query])(knows)["knowmem"].tolist() == [expected.value]
