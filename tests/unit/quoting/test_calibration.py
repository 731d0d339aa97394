"""Calibration against plain loops, and what it promises."""

import dataclasses
import math

import numpy as np
import pytest

from palimpsest.candidates import Calibration
from palimpsest.candidates.calibration import (
    HARM,
    PAPER,
    States,
    calibrate,
    grams,
    hurts,
    losses,
    measured,
    seen_in,
)
from palimpsest.candidates.samples import Sample, submit_states
from palimpsest.candidates.settings import NestSettings
from palimpsest.decoding.quoting.request import NestRequest
from palimpsest.errors import FailedPrecondition
from tests.unit.quoting.at_once import nest_score

from .test_quoting import TEXTS, candidates


def made_up(count: int = 300, seed: int = 0, trust: float = 0.9) -> States:
    """Positions where near neighbours are right with probability ``trust``, and far ones hardly ever."""
    random = np.random.default_rng(seed)
    near = random.uniform(0, 1, count) < 0.5
    first = np.where(near, random.uniform(1, 10, count), random.uniform(60, 80, count))
    distances = np.sort(np.concatenate([first[:, None], random.uniform(80, 100, (count, 99))], 1), axis=1)
    hits = random.uniform(0, 1, (count, 100)) < 0.01
    hits[:, 0] = random.uniform(0, 1, count) < np.where(near, trust, 0.05)
    distances[:5, 4:] = np.inf
    priors = np.log(random.uniform(0.1, 1, (count, 100)))
    lm = np.log(random.uniform(0.01, 0.6, count))
    as32 = (distances.astype(np.float32), hits, priors.astype(np.float32), lm.astype(np.float32))
    return States(*as32, seen=near, size=64)


def by_hand(states: States, n: int, point: Calibration) -> float:
    found = [
        (float(d), bool(h), float(p))
        for d, h, p in zip(states.distances[n], states.hits[n], states.priors[n], strict=True)
        if math.isfinite(d)
    ][: point.r]
    if len(found) < 8:
        return -float(states.lm[n])
    ratio = found[0][0] / found[-1][0]
    weight = 1 / (1 + math.exp(-(ratio - point.alpha) / point.tau))
    raw = [math.exp(-point.mu / math.sqrt(states.size) * d + point.beta * p) for d, _, p in found]
    knn = sum(x for x, (_, hit, _) in zip(raw, found, strict=True) if hit) / sum(raw)
    return -math.log(weight * math.exp(states.lm[n]) + (1 - weight) * knn)


@pytest.mark.parametrize(
    "point",
    [
        Calibration(1.0, 0.3, 0.1, 16, beta=0.0),
        Calibration(0.3, 0.6, 0.2, 1024, beta=2.0),
        Calibration(10.0, 0.05, 0.05, 64, beta=0.0),
    ],
)
def test_losses_are_the_plain_loop(point):
    states = made_up(60)
    assert losses(states, point).tolist() == pytest.approx(
        [by_hand(states, n, point) for n in range(60)], rel=1e-5
    )


def test_the_best_point_that_does_no_harm_is_chosen():
    states = made_up()
    chosen = calibrate(states, model="m")
    assert chosen.model == "m"
    assert (chosen.positions, chosen.novel) == (300, int((~states.seen).sum()))
    assert chosen.nll < 0.8 * chosen.nll_lm
    assert chosen.novel_nll <= chosen.novel_nll_lm + HARM
    assert chosen.nll == pytest.approx(float(losses(states, chosen).mean()))
    grid = [
        Calibration(mu, alpha, tau, r, beta=0.0)
        for mu in (1.0, 3.0)
        for alpha in (0.1, 0.5)
        for tau in (0.1, 0.2)
        for r in (64,)
    ]
    best = calibrate(states, mu=(1.0, 3.0), alpha=(0.1, 0.5), tau=(0.1, 0.2), r=(64,))
    harmless = [p for p in (measured(states, g) for g in grid) if p.novel_nll <= p.novel_nll_lm + HARM]
    assert best.nll == pytest.approx(min(p.nll for p in harmless))


def test_points_that_hurt_are_known():
    states = made_up(trust=0.0)
    assert hurts(states, Calibration(1.0, 0.6, 0.05, 64, beta=0.0))
    assert not hurts(made_up(), calibrate(made_up()))
    # A model whose states are all close together: with the literal values every neighbour counts alike.
    flat = dataclasses.replace(made_up(), distances=made_up().distances * np.float32(0.1))
    assert hurts(flat, PAPER)
    assert not hurts(flat, calibrate(flat))


def test_where_every_point_harms_the_least_harmful_is_taken():
    states = made_up(trust=0.0)
    states = dataclasses.replace(states, hits=np.zeros_like(states.hits))
    chosen = calibrate(states)
    assert chosen.novel_nll - chosen.novel_nll_lm < 0.02


def test_the_prior_is_chosen_where_the_right_document_is_there():
    states, within = made_up(), made_up(seed=1)
    top = np.zeros_like(within.priors)
    top[:, 1:] = -1.5
    within = dataclasses.replace(within, priors=top)
    within.hits[:, 0] = True
    assert calibrate(states).beta == 0
    assert calibrate(states, within).beta > 0


def test_too_few_positions_are_refused():
    with pytest.raises(FailedPrecondition) as caught:
        calibrate(made_up(40))
    assert caught.value.reason == "CALIBRATION_EMPTY"


def test_contexts_are_found():
    known = grams([[1, 2, 3, 4], [7, 8]], size=3)
    assert known == {(1, 2, 3), (2, 3, 4)}
    assert seen_in([0, 1, 2, 3, 9, 2, 3, 4, 5], known, 3).tolist() == [False] * 4 + [True] + [False] * 3 + [
        True
    ]


def test_states_say_what_scoring_says(make_engine, tiny):
    engine = make_engine()
    block = candidates(tiny, scores=[1.0, 2.0, 3.0])
    ids = tiny.tokenizer(TEXTS[1] + TEXTS[0]).input_ids
    seen = np.arange(len(ids)) % 2 == 0
    states = submit_states(
        engine, [Sample(ids, block, 5, seen), Sample(ids[:9], block, 0, seen[:9])], 64
    ).result(60)
    assert len(states.lm) == len(ids) - 5 + 8
    assert states.seen[: len(ids) - 5].tolist() == seen[5:].tolist()
    point = Calibration(1.0, 0.6, 0.1, 24, 1.5)
    settings = NestSettings(mu=1.0, alpha=0.6, tau=0.1, r=24, beta=1.5)
    expected = nest_score(tiny, ids, NestRequest(block, settings), skip=5)
    np.testing.assert_allclose(-losses(states, point)[: len(ids) - 5], expected.nest, atol=2e-3)
    np.testing.assert_allclose(states.lm[: len(ids) - 5], expected.lm, atol=1e-4)
