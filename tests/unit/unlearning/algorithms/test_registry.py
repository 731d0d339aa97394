"""Algorithms by id: what they need, what they refuse, and that the message names the field."""

import dataclasses

import pytest

from palimpsest.errors import InvalidArgument
from services.unlearning.algorithms import ALGORITHMS, algorithm, build


def refused(call, reason, field):
    with pytest.raises(InvalidArgument) as caught:
        call()
    assert caught.value.reason == reason
    assert caught.value.violations[0].field == field
    return caught.value.message


def test_every_algorithm_of_the_papers_is_there():
    assert list(ALGORITHMS)[:8] == ["ga", "ga_gdr", "ga_klr", "npo", "npo_gdr", "npo_klr", "tv", "whp"]
    assert len(ALGORITHMS) == 23
    assert all(name == each.id and each.card.endswith(".") for name, each in ALGORITHMS.items())


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_defaults_are_within_their_bounds(name):
    parameters = algorithm(name).parse()
    assert isinstance(parameters, algorithm(name).parameters)
    assert algorithm(name).parse(dataclasses.asdict(parameters)) == parameters


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_every_hyper_parameter_refuses_nonsense(name):
    for field in dataclasses.fields(algorithm(name).parameters):
        for value in ("nonsense", float("nan"), [], -1e9):
            refused(
                lambda field=field, value=value: algorithm(name).parse({field.name: value}),
                "ALGORITHM_PARAMETER_INVALID",
                field.name,
            )


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("npo", "beta", 0),
        ("npo", "beta", True),
        ("npo", "beta", "0.1"),
        ("npo", "length_norm", "tokens"),
        ("ga_gdr", "alpha", -1),
        ("tv", "alpha", float("inf")),
        ("cir", "components", -1),
        ("tv", "alpha", -1.5),
        ("tv", "legacy_muse", 1),
        ("rmu", "layer", 1.0),
        ("rmu", "layer", -1),
        ("undo", "alpha", 1.5),
        ("repselect", "components", None),
        ("npo", "learning_rate", 1e-5),
        ("retrain", "beta", 1.0),
        ("ga", "regulariser", "gdr"),
        ("npo_klr", "regulariser", "gdr"),
    ],
)
def test_a_bad_hyper_parameter_is_refused_by_name(name, field, value):
    message = refused(lambda: algorithm(name).parse({field: value}), "ALGORITHM_PARAMETER_INVALID", field)
    assert field in message


def test_an_unknown_algorithm_is_refused_with_the_known_ones(inputs):
    message = refused(lambda: build("gradient_ascent", {}, inputs), "ALGORITHM_UNKNOWN", "algorithm")
    assert "npo_klr" in message


@pytest.mark.parametrize(
    ("name", "values", "needs"),
    [
        ("ga", {}, {"forget"}),
        ("ga_gdr", {}, {"forget", "retain"}),
        ("npo_klr", {}, {"forget", "retain", "reference"}),
        ("npo", {"legacy_muse": True}, {"forget", "reference"}),
        ("simnpo", {}, {"forget", "retain"}),
        ("simnpo", {"regulariser": "none"}, {"forget"}),
        ("dpo", {}, {"forget", "retain", "alternatives"}),
        ("flat", {}, {"forget", "alternatives"}),
        ("undial", {}, {"forget", "reference"}),
        ("rmu", {}, {"forget", "retain"}),
        ("tv", {}, {"forget"}),
        ("undo", {}, {"retain", "teacher"}),
        ("bad_teaching", {}, {"forget", "retain", "never_knew"}),
        ("retrain", {}, {"retain"}),
    ],
)
def test_an_algorithm_asks_for_what_it_needs_and_no_more(name, values, needs, inputs):
    assert algorithm(name).needs(algorithm(name).parse(values)) == needs
    given = {"teacher": "reference", "never_knew": "reference"}
    everything = {"forget": (), "retain": (), "alternatives": (), "reference": None}
    kept = {given.get(need, need) for need in needs}
    least = dataclasses.replace(inputs, **{k: v for k, v in everything.items() if k not in kept})
    build(name, values, least)
    for need in kept:
        refused(
            lambda need=need: build(name, values, dataclasses.replace(least, **{need: everything[need]})),
            "ALGORITHM_INPUT_MISSING",
            need,
        )


def test_alternatives_are_needed_for_every_example(inputs):
    for wrong in (inputs.alternatives[:-1], [*inputs.alternatives[:-1], ()]):
        refused(
            lambda wrong=wrong: build("idk", {}, dataclasses.replace(inputs, alternatives=wrong)),
            "ALGORITHM_INPUT_MISSING",
            "alternatives",
        )


def test_what_trains_nothing_has_no_objective(inputs):
    for name in ("repselect", "cir"):
        refused(lambda name=name: build(name, {}, inputs), "ALGORITHM_NOT_TRAINED", "algorithm")
