"""Scores against the plain mixture, one whole pass a token."""

import dataclasses
import math

import numpy as np
import pytest

from palimpsest.candidates import Mode, NestSettings
from palimpsest.decoding.quoting.request import NestRequest
from palimpsest.decoding.quoting.scoring import submit_nest_score
from palimpsest.engine import score
from palimpsest.errors import InvalidArgument
from tests.unit.quoting.at_once import nest_score

from .plain import Plain
from .test_quoting import candidates

SETTINGS = NestSettings(mu=1.0, alpha=0.6, tau=0.1, r=24, beta=1.5, lm_weight=0.6)


def test_scores_are_the_plain_mixtures(tiny):
    block = candidates(tiny, scores=[1.0, 2.0, 3.0])
    ids = tiny.tokenizer("a lazy fox jumps over the quick naïve brown dog and shares two settings").input_ids
    found = nest_score(tiny, ids, NestRequest(block, SETTINGS), skip=4)
    assert found.ids.tolist() == ids[4:]
    plain = [t.logprob for t in score(tiny, ids, skip=4).tokens]
    assert found.lm.tolist() == pytest.approx(plain, abs=1e-4)
    for n in range(4, len(ids)):
        for mode, values in ((Mode.NEST, found.nest), (Mode.KNN_LM, found.knn_lm)):
            by_hand = Plain(tiny, block, dataclasses.replace(SETTINGS, mode=mode), {0, 1, 2})
            mixed, weight, _ = by_hand.mix(ids[:n])
            assert values[n - 4] == pytest.approx(math.log(float(mixed[ids[n]])), abs=2e-3)
            if mode is Mode.NEST:
                assert found.weight[n - 4] == pytest.approx(weight, abs=1e-3)
    assert found.perplexity("lm") == pytest.approx(math.exp(-np.mean(plain)), rel=1e-3)
    assert found.perplexity("nest") == pytest.approx(math.exp(-found.nest.mean()))


def test_an_engine_scores_between_its_steps(make_engine, tiny):
    engine = make_engine()
    block = candidates(tiny)
    ids = (tiny.tokenizer("the quick brown fox " * 40).input_ids)[:150]
    nest = NestRequest(block, SETTINGS)
    found = submit_nest_score(engine, ids, nest, skip=70).result(60)
    alone = nest_score(tiny, ids, NestRequest(block, SETTINGS), skip=70)
    np.testing.assert_allclose(found.nest, alone.nest, atol=1e-5)
    assert len(found.ids) == 80
    assert len(nest_score(tiny, ids[:1], nest).ids) == 0
    with pytest.raises(InvalidArgument):
        submit_nest_score(engine, [1, 2, 10**6], nest)
    with pytest.raises(InvalidArgument):
        submit_nest_score(engine, ids, NestRequest(block, NestSettings(tau=-1.0)))


def test_what_is_deleted_does_not_count(tiny):
    block = candidates(tiny)
    ids = tiny.tokenizer("the quick brown fox jumps over the lazy dog").input_ids
    nest = NestRequest(block, SETTINGS)
    for document in ("d0", "d1", "d2"):
        nest.revocations.revoke("corpora/c", document)
    found = nest_score(tiny, ids, nest)
    np.testing.assert_allclose(found.nest, found.lm, atol=1e-5)
    assert (found.weight == 1).all()
