"""The study's grafts: positions move with a prefix, and what is grafted one way is left out the other way."""

import pytest
import torch

from palimpsest.lm import load
from services.grafting.facts import build_facts
from tests.benchmarks.grafting_study.measuring import PREFIX, Measurer
from tests.benchmarks.grafting_study.study import Table
from tests.unit.grafting.zoo import near

CASES = {case.form: case for case in build_facts(1, 4, ("forward",)).cases if case.fact == "fact-0001"}


@pytest.fixture(scope="module")
def pair(tiny_model):
    model = load(tiny_model, "cpu", "float32", trainable=True, threads=1)
    donor = near(model.module, 1, 0.2)
    return model.module, donor, model.tokenizer


def test_named_positions_move_with_a_prefix(pair):
    measurer = Measurer(*pair)
    for case in CASES.values():
        bare, prefixed = measurer.ask(case), measurer.ask(case, PREFIX)
        assert set(bare.named) == set(prefixed.named) == set(case.places)
        for name, at in bare.named.items():
            words = [
                "".join(asked.prompt.tokens[n] for n in asked.named[name]).split()
                for asked in (bare, prefixed)
            ]
            assert words[0] == words[1], name
            assert len(at) == len(prefixed.named[name])
        assert bare.named["last_token"] == (len(bare.prompt.ids) - 1,)


def test_one_way_is_the_complement_of_the_other(pair):
    base, donor, tokenizer = pair
    one, other = Measurer(base, donor, tokenizer), Measurer(donor, base, tokenizer)
    case = CASES["title"]
    found, back = one.measure(one.ask(case)), other.measure(other.ask(case))
    assert {"M", "M+LT", "random 0", "LT upper O+FFN"} <= set(found)
    for name in ("FE", "LT", "FE+LT"):
        assert found[name]["logprob"] == pytest.approx(back[f"({name})^C"]["logprob"], abs=1e-4)
    assert found["base"]["logprob"] == pytest.approx(back["donor"]["logprob"], abs=1e-4)
    assert abs(found["FE+LT"]["logprob"] - found["base"]["logprob"]) > 1e-3


def test_ends_are_the_models_own(pair):
    base, donor, tokenizer = pair
    measurer = Measurer(base, donor, tokenizer)
    asked = measurer.ask(CASES["alongside"])
    row = measurer.measure(asked, ("FE+LT",), target=7)
    assert set(row) == {"base", "donor", "FE+LT"}
    for name, model in (("base", base), ("donor", donor)):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([asked.case.prompt])).logits[0, -1].double()
        assert row[name]["probability"] == pytest.approx(float(torch.softmax(logits, -1)[7]), rel=1e-4)
        assert row[name]["rank"] == int((logits > logits[7]).sum()) + 1


def test_a_table_pools_forms_by_fact_and_seeds_by_fact():
    def row(value):
        return {"FE": {"rank": value}}

    found = {
        seed: {
            form: {f"fact-{n}": row(10 * seed + n + add) for n in (1, 2)}
            for form, add in (("a", 0), ("b", 2))
        }
        for seed in (1, 2)
    }
    table = Table(found)
    assert table.facts("a", "FE", "rank").tolist() == [11, 12, 21, 22]
    assert table.pooled("FE", "rank", ("a", "b")).tolist() == [12, 13, 22, 23]
    assert table.by_seed("FE", "rank", ("a", "b")) == [12.5, 22.5]
