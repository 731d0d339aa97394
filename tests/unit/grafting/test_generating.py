"""Grafted generation, against weights that are swapped token by token under one cache."""

import pytest
import torch

from services.grafting.engine import Configuration, Patch
from services.grafting.engine.configurations import LAYER_COMPONENTS
from services.grafting.engine.generating import Decoding, generate
from tests.unit.grafting.zoo import (
    LAYERS,
    drawn,
    drawn_ids,
    everything,
    grafter,
    make,
    swapped,
)

MOST = 5
NO_ENDS = frozenset[int]()


@pytest.fixture(params=["llama", "qwen2 with windows", "gpt2", "neox"])
def pair(request):
    return make(request.param, 0), make(request.param, 1)


def extended(prompt: Configuration, decoding: Decoding, tokens: int, made: int) -> Configuration:
    """What the policy says of a prompt of so many tokens and those after it, in one configuration."""
    after = range(tokens, tokens + made)
    if decoding is Decoding.BASE:
        return prompt
    if decoding is Decoding.DONOR:
        return Configuration(
            (*prompt.patches, *(p._replace(positions=after) for p in everything(tokens).patches))
        )
    as_last = tuple(p._replace(positions=after) for p in prompt.patches if tokens - 1 in p.positions)
    return Configuration((*prompt.patches, *as_last))


@pytest.mark.parametrize("decoding", list(Decoding))
def test_generated_tokens_are_those_of_swapped_weights(pair, decoding: Decoding):
    ids, prompt = drawn_ids(3, 6), drawn(3, 6)
    found = list(generate(grafter(*pair), tuple(ids), prompt, decoding, MOST, NO_ENDS))
    made = [each.token for each in found]
    whole = extended(prompt, decoding, 6, MOST - 1)
    logits = swapped(pair, [*ids, *made[:-1]], whole)[5:]
    assert made == logits.argmax(-1).tolist()
    logprobs = torch.log_softmax(logits.double(), -1).max(-1).values.tolist()
    assert [each.logprob for each in found] == pytest.approx(logprobs, abs=1e-3)
    assert [each.last for each in found] == [False] * (MOST - 1) + [True]


def test_nothing_grafted_is_the_base_s_own_greedy_text():
    model = make("llama", 0)
    ids = drawn_ids(4)
    expected = model.generate(torch.tensor([ids]), max_new_tokens=MOST, do_sample=False, eos_token_id=None)
    found = generate(
        grafter(model, make("llama", 1)), tuple(ids), Configuration(), Decoding.LAST, MOST, NO_ENDS
    )
    assert [each.token for each in found] == expected[0, len(ids):].tolist()  # fmt: skip


def test_an_ending_token_is_the_last_one():
    engine, ids = grafter(make("llama", 0), make("llama", 1)), tuple(drawn_ids(5))
    last = Configuration((Patch((8,), range(LAYERS), LAYER_COMPONENTS),))
    whole = [each.token for each in generate(engine, ids, last, Decoding.LAST, MOST, NO_ENDS)]
    end = whole[2]
    cut = list(generate(engine, ids, last, Decoding.LAST, MOST, frozenset({end})))
    assert [each.token for each in cut] == whole[: whole.index(end) + 1]
    assert (cut[-1].ends, cut[-1].last) == (True, False)


def test_a_pass_that_goes_on_is_a_longer_pass(pair):
    engine, ids, configuration = grafter(*pair), drawn_ids(6), drawn(6, 9)
    passed = engine.begin(ids[:4], Configuration(tuple(
        p._replace(positions=(p.positions[0],)) for p in configuration.patches if p.positions[0] < 4
    )))  # fmt: skip
    found = [passed.logits[-1]]
    found += [engine.step(passed, ids[at], configuration.at(at)) for at in range(4, 9)]
    whole = engine.forward(ids, configuration)[3:]
    assert float((torch.stack(found) - whole).abs().max()) <= 1e-4
