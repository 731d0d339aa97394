"""The entropy coder: what goes in comes out, in the bits it should take, by either implementation."""

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palimpsest.errors import DataLoss, InvalidArgument
from palimpsest.kv.coding import rans
from palimpsest.kv.coding import tables as rans_tables
from palimpsest.kv.coding.quantiser import choose_classes, count_symbols
from tests.kv_references import ideal_bits


def tables_of(seed: int, classes: int) -> rans_tables.Tables:
    rng = np.random.default_rng(seed)
    counts = np.zeros((classes, 256), dtype=np.int64)
    for row in counts:
        values, number = np.unique(
            np.clip(np.rint(rng.laplace(128, rng.uniform(0.1, 30), 4000)), 0, 255), return_counts=True
        )
        row[values.astype(int)] = number
    return rans_tables.Tables(rans_tables.frequencies_from_counts(counts))


def draw_symbols(tables: rans_tables.Tables, classes: np.ndarray, tokens: int, seed: int) -> np.ndarray:
    slots = tables.slots.reshape(-1, rans_tables.TOTAL)
    picks = np.random.default_rng(seed).integers(0, rans_tables.TOTAL, (tokens, len(classes)))
    return (slots[classes[None, :], picks] & 0xFF).astype(np.uint8)


@given(tokens=st.integers(0, 9), width=st.integers(1, 80), seed=st.integers(0, 2**32 - 1), fair=st.booleans())
@settings(max_examples=60, deadline=None)
def test_both_implementations_write_the_same_bytes_and_read_them_back(tokens, width, seed, fair):
    tables = tables_of(seed % 7, 5)
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 5, width).astype(np.uint8)
    symbols = (
        draw_symbols(tables, classes, tokens, seed)
        if fair
        else rng.integers(0, 256, (tokens, width)).astype(np.uint8)
    )
    stream = rans.encode(symbols, classes, tables)
    assert np.array_equal(rans.decode(stream, tokens, classes, tables), symbols)
    words = np.empty(symbols.size, dtype=np.uint16)
    states = np.full(rans.LANES, rans.STATE_FLOOR, dtype=np.uint32)
    first = rans._encode_blocks(symbols, classes, tables.frequencies, tables.starts, words, states)
    assert states.tobytes() + words[first:].tobytes() == stream
    out = np.empty_like(symbols)
    padded = np.concatenate([words[first:], np.zeros(width, dtype=np.uint16)])
    assert (
        rans._decode_blocks(padded, symbols.size - first, states, classes, tables.symbols, tables.ranges, out)
        == symbols.size - first
    )
    assert np.array_equal(out, symbols)


def test_the_stream_is_the_same_on_every_machine():
    tables = tables_of(1, 3)
    classes = np.arange(70, dtype=np.uint8) % 3
    symbols = draw_symbols(tables, classes, 40, 5)
    assert zlib.crc32(rans.encode(symbols, classes, tables)) == 2363737601


def test_the_size_is_within_a_percent_of_the_ideal():
    tables = tables_of(3, 8)
    classes = (np.arange(480) % 8).astype(np.uint8)
    symbols = draw_symbols(tables, classes, 512, 1)
    ideal = ideal_bits([symbols], [classes], tables) / 8
    assert ideal < len(rans.encode(symbols, classes, tables)) < 1.01 * ideal + 4 * rans.LANES


def test_columns_share_tables_by_likeness():
    rng = np.random.default_rng(0)
    scales = np.repeat([0.3, 2.0, 20.0], 10)
    symbols = np.clip(np.rint(rng.laplace(0, scales, (800, 30))) + 128, 1, 255).astype(np.uint8)
    counts = np.zeros((30, 256), dtype=np.uint32)
    count_symbols(symbols, counts)
    classes, totals = choose_classes(counts, 3)
    assert [len(set(classes[at : at + 10])) for at in (0, 10, 20)] == [1, 1, 1]
    assert len(set(classes)) == 3
    assert (rans_tables.frequencies_from_counts(totals).sum(1) == rans_tables.TOTAL).all()


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_stream_is_never_taken_for_a_whole_one_of_other_length(data):
    tables = tables_of(2, 2)
    classes = np.zeros(40, dtype=np.uint8)
    symbols = draw_symbols(tables, classes, 12, 3)
    stream = rans.encode(symbols, classes, tables)
    cut = data.draw(st.integers(0, len(stream) - 1))
    with pytest.raises(DataLoss):
        rans.decode(stream[:cut], 12, classes, tables)
    with pytest.raises(DataLoss):
        rans.decode(stream + b"\x00\x00", 12, classes, tables)


def test_what_a_table_leaves_out_cannot_be_coded():
    frequencies = np.zeros((1, 256), dtype=np.uint16)
    frequencies[0, 128] = rans_tables.TOTAL
    tables = rans_tables.Tables(frequencies)
    with pytest.raises(InvalidArgument):
        rans.encode(np.full((1, 1), 5, np.uint8), np.zeros(1, np.uint8), tables)
    with pytest.raises(InvalidArgument):
        rans_tables.Tables(np.ones((1, 256), dtype=np.uint16))
