"""The Triton decoder: run where there is a GPU; elsewhere its very source, on a numpy stand-in for the language."""

import types
from typing import ClassVar

import numpy as np
import pytest

from palimpsest.kv.coding import rans, rans_cuda
from palimpsest.kv.coding import tables as rans_tables

from .test_rans import draw_symbols, tables_of


class Pointer:
    """An array and an offset (a number or a vector of them), as a kernel sees memory."""

    def __init__(self, array, at=0):
        self.array, self.at = array, at

    def __add__(self, more):
        return Pointer(self.array, self.at + np.asarray(more).astype(np.int64))


class Vector(np.ndarray):
    """A vector with the language's ``to``."""

    def to(self, kind, bitcast=False):
        return self.view(kind) if bitcast else self.astype(kind)


def vector(values):
    return np.asarray(values).view(Vector)


class Language:
    """What the kernel uses of triton.language, for one program."""

    int32, uint32, uint8 = np.int32, np.uint32, np.uint8
    constexpr: ClassVar[type] = int
    program = 0

    def program_id(self, axis):
        return self.program

    def arange(self, first, last):
        return vector(np.arange(first, last))

    def load(self, pointer, mask=None, other=0):
        at = np.asarray(pointer.at)
        safe = at if mask is None else np.where(mask, at, 0)
        found = pointer.array.reshape(-1)[np.minimum(safe, pointer.array.size - 1)]
        if not at.ndim:
            return int(found)
        return vector(found if mask is None else np.where(mask, found, found.dtype.type(other)))

    def store(self, pointer, value, mask=None):
        at, value = np.broadcast_arrays(pointer.at, value)
        chosen = np.ones(at.shape, bool) if mask is None else np.asarray(mask)
        pointer.array.reshape(-1)[at[chosen]] = value[chosen]

    def cumsum(self, values, axis):
        return vector(np.cumsum(values))

    def sum(self, values, axis):
        return int(np.sum(values))

    def where(self, condition, yes, no):
        return vector(np.where(condition, yes, no))


def test_the_kernels_algorithm_reads_what_the_encoder_writes(monkeypatch):
    tables = tables_of(4, 6)
    widths = [70, 32, 5]
    classes = [(np.arange(width) * 5 % 6).astype(np.uint8) for width in widths]
    symbols = [draw_symbols(tables, kind, 11, seed) for seed, kind in enumerate(classes)]
    streams = [rans.encode(part, kind, tables) for part, kind in zip(symbols, classes, strict=True)]
    words = [np.frombuffer(stream, "<i2", offset=4 * rans.LANES) for stream in streams]
    states = np.stack([np.frombuffer(stream, "<i4", count=rans.LANES) for stream in streams])
    starts, ends = rans_cuda._offsets([len(part) for part in words])
    columns, _ = rans_cuda._offsets(widths)
    places, _ = rans_cuda._offsets([11 * width for width in widths])
    out = np.zeros(11 * sum(widths), np.uint8)
    final = np.zeros((3, rans.LANES + 1), np.int32)
    language = Language()
    kernel = types.FunctionType(rans_cuda._decode_section.__code__, {"tl": language, "range": range})
    arrays = (np.concatenate(words), starts, ends, states, np.concatenate(classes), columns, np.array(widths))
    arrays = (*arrays, tables.slots.view(np.int32), out, places, final)
    for language.program in range(3):
        kernel(
            *(Pointer(array) for array in arrays),
            11,
            rans.LANES,
            rans_tables.PROBABILITY_BITS,
            rans.STATE_FLOOR,
        )
    assert (final[:, :-1] == rans.STATE_FLOOR).all()
    assert (final[:, -1] == ends - starts).all()
    assert out.tobytes() == b"".join(part.tobytes() for part in symbols)


@pytest.mark.skipif(not rans_cuda.available(), reason="needs Triton and a GPU")
def test_a_gpu_decodes_the_same_symbols():
    tables = tables_of(4, 6)
    classes = [(np.arange(width) % 6).astype(np.uint8) for width in (576, 64)]
    symbols = [draw_symbols(tables, kind, 200, seed) for seed, kind in enumerate(classes)]
    streams = [rans.encode(part, kind, tables) for part, kind in zip(symbols, classes, strict=True)]
    found = rans_cuda.decode(streams, 200, classes, tables, "cuda")
    for mine, theirs in zip(symbols, found, strict=True):
        assert np.array_equal(theirs.cpu().numpy(), mine)
