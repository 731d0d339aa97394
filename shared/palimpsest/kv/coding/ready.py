"""Machine code for decoding, made before it is needed: a receiver that compiles looks like one that decodes slowly."""

from functools import cache

import numpy as np

from palimpsest.kv.coding import lossless, rans
from palimpsest.kv.coding.quantiser import dequantise
from palimpsest.kv.coding.tables import ALPHABET, TOTAL, Tables


@cache
def make_ready() -> None:
    """Compile what decoding runs, or read it from the disk, which takes half a second the first time in a process."""
    classes = np.zeros(1, dtype=np.uint8)
    tables = Tables(np.full((1, ALPHABET), TOTAL // ALPHABET, dtype=np.uint16))
    empty = np.full(rans.LANES, rans.STATE_FLOOR, dtype="<u4").tobytes()
    symbols = rans.decode(empty, 0, classes, tables)
    dequantise(symbols, np.empty(0, dtype=np.int32), 1.0, classes, np.zeros((1, ALPHABET), dtype=np.float32))
    lossless.unpack_mantissas(np.empty(0, dtype=np.uint8), 1, 0)
