"""Attacks that a plan can name: one list, in the contract, in the code and in what makes them."""

import re
from pathlib import Path

import pytest

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.errors import InvalidArgument, Reason
from palimpsest.training.recipe import LoraSettings, Recipe
from services.unlearning.attacks.quantisation import GGUF_FORMATS, standard_schemes
from services.unlearning.metrics.items import Pair, Text
from services.unlearning.removal.attack_plan import NAMES, UNRELATED, attack_plan, groups_of
from services.unlearning.removal.attacking import _SCHEMES
from services.unlearning.removal.datasets.sets import DataSet

PROTO = Path(__file__).parents[3] / "protos/palimpsest/api/unlearning/v1/unlearning.proto"
FORGET = DataSet(
    "forget",
    "",
    tuple(Text(f"doc-{n}", f"text {n}") for n in range(3)),
    tuple(Pair(f"q-{n}", f"what is {n}?", str(n)) for n in range(3)),
    {"q-0": "doc-0", "q-1": "elsewhere"},
    {"q-0": ("zero?",), "q-1": ("one?",)},
)


def planned(recipe=None, **fields):
    sets = {"forget": FORGET, "retain": FORGET}
    recipe = recipe or Recipe(steps=1)
    return attack_plan(pb.Attacks(**fields), sets, None, None, None, recipe, lambda each: each)


def test_the_contract_takes_every_attack_and_no_other():
    text = PROTO.read_text()
    message = text[text.index("message Attacks {") :]
    pattern = re.search(r'names = 1 .*pattern: "([^"]*)"', message)[1]
    assert all(re.fullmatch(pattern, name) for name in NAMES)
    assert not any(re.fullmatch(pattern, name) for name in ("Q4_K", "int2/32", "prefix/0x5", "sampling/16"))
    comment = message[: message.index("repeated string names")]
    assert all(f'"{name}"' in comment for name in NAMES)


def test_every_precision_has_its_scheme():
    schemes = {each.name for each in standard_schemes()} | set(GGUF_FORMATS)
    assert set(_SCHEMES) == schemes
    assert schemes < set(NAMES)
    assert len(set(NAMES)) == len(NAMES)
    assert all(_SCHEMES[name]().name == name for name in schemes)


def test_settings_are_those_of_the_training_unless_the_plan_says_others():
    found = planned(recipe=Recipe(steps=1, learning_rate=3e-4, seed=9))
    assert (found.learning_rate, found.seed, found.samples, found.steps) == (3e-4, 9, 16, 0)
    adapted = Recipe(steps=1, learning_rate=1e-3, adapter=LoraSettings(rank=2))
    assert planned(recipe=adapted).learning_rate == 1e-5  # an adapter's rate is not for the weights
    chosen = planned(learning_rate=1e-2, seed=4, samples=3, steps=7)
    assert (chosen.learning_rate, chosen.seed, chosen.samples, chosen.steps) == (1e-2, 4, 3, 7)


def test_unrelated_text_is_that_of_the_manuals_unless_the_plan_gives_some():
    found = planned(names=[UNRELATED]).unrelated
    assert found is not None
    assert len(found.documents) > 50
    assert all(len(str(each.text)) > 100 for each in found.documents)
    assert planned().unrelated is None


def test_questions_stand_and_fall_with_their_document():
    groups = groups_of(FORGET)
    assert groups["q-0"] == groups["doc-0"] == "doc-0"
    assert groups["q-1"] == "elsewhere"
    assert groups["q-2"] == "q-2"


def test_an_unknown_attack_is_refused_with_the_known_ones():
    with pytest.raises(InvalidArgument) as refused:
        planned(names=["Q6_K"])
    assert refused.value.reason == Reason.INVALID_REQUEST
    assert "Q6_K" in refused.value.message
    assert "int4/32" in refused.value.message
