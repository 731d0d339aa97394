"""The candidate block: there and back, and every way it can be wrong."""

import dataclasses
import json
from itertools import pairwise

import numpy as np
import pytest
from safetensors.numpy import load, save

from palimpsest.candidates import Calibration, Candidates, Mode, NestSettings, Owner
from palimpsest.errors import InvalidArgument

from .blocks import block_of, fill


def example() -> Candidates:
    block = fill(block_of([range(3, 40), range(50, 60)], size=32))
    block.present[1] = False
    part = slice(int(block.first[1]), int(block.first[2]))
    block.keys[part], block.scales[part], block.norms[part] = 0, 0, 0
    owner = Owner("corpora/c", "other", 3, 5, 4, 2, "t", "u", "f" * 64)
    block.passages = (dataclasses.replace(block.passages[0], owners=(owner,)), *block.passages[1:])
    block.epochs, block.tombstones = {"corpora/c": 7}, {"corpora/c": 2}
    block.calibrations = {"corpora/c": Calibration(mu=1.0, r=64, model="m")}
    return block


def test_there_and_back():
    block = example()
    data = block.to_bytes()
    again = Candidates.from_bytes(data)
    for entry in dataclasses.fields(Candidates):
        a, b = getattr(block, entry.name), getattr(again, entry.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        else:
            assert a == b
    assert again.to_bytes() == data


def test_missing_keys_take_no_room():
    block = example()
    without = block_of([range(3, 40), range(50, 60)], size=32)
    assert len(block.to_bytes()) - len(without.to_bytes()) > 30 * 32
    assert load(without.to_bytes())["keys"].shape == (0, 32)


def test_an_empty_block_is_a_block():
    empty = Candidates.without_keys([], [], [], [], 32)
    assert len(Candidates.from_bytes(empty.to_bytes())) == 0


def test_tokens_of_a_passage_cover_its_text():
    block = example()
    for number, passage in enumerate(block.passages):
        offsets = block.byte_offsets(number)
        written = [passage.text[a:b] for a, b in pairwise(offsets)]
        assert written == [b"<%d>" % t for t in block.ids(number)]
    assert block.passage_of().tolist() == [0] * 16 + [1] * 16 + [2] * 5 + [3] * 10


def changed(arrays: dict | None = None, meta: dict | None = None, passage: dict | None = None) -> bytes:
    data = example().to_bytes()
    size = int.from_bytes(data[:8], "little")
    own = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["candidates"])
    own["passages"][0].update(passage or {})
    own.update(meta or {})
    return save({**load(data), **(arrays or {})}, {"candidates": json.dumps(own)})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nothing of the kind",
        example().to_bytes()[:-1],
        changed(meta={"format": 2}),
        changed(meta={"passages": []}),
        changed(meta={"epochs": {"a": "b"}}),
        changed(meta={"calibrations": {"a": {"mu": "x"}}}),
        changed(passage={"score": 0.0}),
        changed(passage={"score": "high"}),
        changed(passage={"bytes": 10**9}),
        changed(passage={"byte_start": -1}),
        changed(passage={"version": True}),
        changed(passage={"surprise": 1}),
        changed(passage={"owners": [{"corpus": "c"}]}),
        changed({"first": np.array([0, 16, 8, 37, 47])}),
        changed({"first": np.array([1, 16, 32, 37, 47])}),
        changed({"first": np.array([0, 1 << 60, 32, 37, 47])}),
        changed({"tokens": np.full(47, -1, np.int32)}),
        changed({"tokens": np.zeros(46, np.int32)}),
        changed({"token_bytes": np.zeros(51, np.int32)}),
        changed({"left_counts": np.array([1, 2, 3, 4], np.int32)}),
        changed({"left_counts": np.array([-1, 9, 8, 0], np.int32)}),
        changed({"scales": np.full(31, np.nan, np.float32)}),
        changed({"norms": np.full(31, -1, np.float32)}),
        changed({"keys": np.zeros((31, 32), np.float32)}),
        changed({"keys": np.zeros((5, 32), np.int8)}),
        changed({"present": np.ones(3, np.uint8)}),
    ],
)
def test_what_does_not_fit_is_refused(data):
    with pytest.raises(InvalidArgument) as caught:
        Candidates.from_bytes(data)
    assert caught.value.reason == "CANDIDATES_INVALID"


def test_every_cut_is_refused():
    data = example().to_bytes()
    for length in range(0, len(data), 97):
        with pytest.raises(InvalidArgument):
            Candidates.from_bytes(data[:length])


@pytest.mark.parametrize(
    "change",
    [
        {"mu": 0.0}, {"alpha": -0.1}, {"tau": 0.0}, {"r": 0}, {"beta": -1.0}, {"delta": 1.1}, {"gamma": 0.0},
        {"gamma": 1.5}, {"gamma": 0.1, "mode": Mode.NEST_STRICT}, {"lm_weight": 2.0}, {"draft": 0},
        {"tau": float("nan")},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_named(change):
    with pytest.raises(InvalidArgument) as caught:
        NestSettings(**change).check()
    assert caught.value.violations[0].field == f"nest.{next(iter(change))}"


def test_open_settings_are_the_corpus_own():
    filled = NestSettings(alpha=0.5).filled(Calibration(mu=1.0, alpha=0.2, r=64))
    assert (filled.mu, filled.alpha, filled.tau, filled.r, filled.gamma) == (1.0, 0.5, 0.1, 64, 0.05)
    assert NestSettings(mode=Mode.NEST_STRICT).filled(None).gamma == 0.5
