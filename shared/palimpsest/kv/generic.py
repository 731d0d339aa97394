"""The codec for models nobody calibrated: un-rotate if possible, subtract the chunk's mean, quantise, entropy-code.

Means, steps and a table number for each channel travel with the chunk; the tables are two-sided geometric ones, made by
integer arithmetic, the same everywhere. It takes about twice the bytes of a calibrated profile.

A layer's step follows its ordinary channels. Some models have a channel or two a thousand times as loud as the others:
those are coded with the same step, mostly as escapes, and do not make it coarser.
"""

import math
import zlib
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch

from palimpsest.kv.coding.quantiser import (
    ZERO,
    count_symbols,
    dequantise,
    measure_error,
    pack_symbols,
    plain_centres,
    quantise,
    symbol_checksum,
    unpack_symbols,
)
from palimpsest.kv.coding.tables import ALPHABET, Tables, frequencies_from_counts
from palimpsest.kv.header import ChunkMeta, Kind, Section, checksum_seed, damaged
from palimpsest.kv.layout import KeyValues
from palimpsest.kv.rotary import Rotary

GROUP = 5
"""Layers of a section."""
STEPS = {"near-lossless": 0.3, "high": 0.45, "balanced": 0.6, "compact": 0.9, "smallest": 1.2}
"""Steps, in deviations of a layer's keys or values."""
TABLES = 64
LOUD = 8.0
"""A channel this many times as loud as most of its layer counts as an outlier, and does not widen the layer's step."""
QUIETEST = 2.0**-12
"""Least deviation of a layer, as a share of its root mean square: keeps the numbers of cells within 32 bits."""


@cache
def geometric_tables() -> Tables:
    """Return the 64 fixed tables: probabilities fall by a constant factor a cell, from steep to flat."""
    counts = np.zeros((TABLES, ALPHABET), dtype=np.int64)
    for table in range(TABLES):
        # Cells to fall to half, in 1/64ths of a cell: 3/64 to some 60 cells, a sixth more each time.
        half = 3 * 7**table // 6**table
        for away in range(ZERO):
            # 2 ** -(64 * away / half) in integers: whole halvings, then linear within one.
            whole, rest = divmod(64 * away, half)
            weight = ((1 << 40) - (1 << 39) * rest // half) >> min(whole, 63)
            counts[table, ZERO + away] = counts[table, ZERO - away if away else ZERO] = weight
        counts[table, 0] = counts[table, ALPHABET - 1]
    return Tables(frequencies_from_counts(counts))


def encode_group(
    kv: KeyValues, rotary: Rotary, component: int, first: int, layers: int, levels: Sequence[str]
) -> dict[str, Section]:
    """Code keys (0) or values (1) of a group of layers at several levels."""
    x = rotary.flatten(kv.part(component)[first : first + layers], kv.start, keys=component == 0)
    mean = x.mean(0).half().clamp(-65504, 65504)
    centred = x - mean.float()
    deviation = _deviation(centred.view(kv.tokens, layers, -1))  # [layers]
    cost = geometric_tables().cost()
    kind = (Kind.KEYS, Kind.VALUES)[component]
    result = {}
    for name in levels:
        steps = (deviation * STEPS[name]).float()
        cells = (centred.view(kv.tokens, layers, -1) / steps[None, :, None]).reshape(kv.tokens, -1)
        symbols, escapes = quantise(cells.numpy(), 1.0, x.shape[1])
        counts = np.zeros((x.shape[1], ALPHABET), dtype=np.uint32)
        count_symbols(symbols, counts)
        classes = np.argmin(counts @ cost.T, axis=1).astype(np.uint8)
        scales = steps.numpy().astype("<f4").tobytes()
        columns = classes.tobytes() + mean.numpy().astype("<f2").tobytes()
        side = zlib.compress(columns, 9)
        head = np.uint32(len(side)).astype("<u4").tobytes() + scales
        payload = head + side + pack_symbols(symbols, escapes, classes, geometric_tables())
        units = steps.repeat_interleave(x.shape[1] // layers).numpy()
        squares, worst = measure_error(
            cells.numpy(), symbols, 1.0, np.zeros(x.shape[1], dtype=np.uint8), plain_centres(1), units
        )
        crc = symbol_checksum(
            symbols, escapes, zlib.crc32(scales + columns, checksum_seed(kind, first, layers))
        )
        result[name] = Section(kind, first, layers, payload, crc, math.sqrt(squares / x.numel()), worst)
    return result


def _deviation(centred: torch.Tensor) -> torch.Tensor:
    """Return each layer's deviation ``[layers]``, of ``[tokens, layers, width]``, outlier channels left out."""
    powers = centred.square().mean(0)  # [layers, width]
    ordinary = powers <= LOUD**2 * powers.median(1, keepdim=True).values
    quiet = (powers * ordinary).sum(1) / ordinary.sum(1)
    return torch.maximum(quiet.sqrt(), QUIETEST * powers.mean(1).sqrt()).clamp_min(1e-8)


def decode_group(section: Section, meta: ChunkMeta, out: KeyValues) -> None:
    """Decode one section of keys or values into its layers of ``out``.

    Raises
    ------
    DataLoss
        The section contradicts itself.
    """
    component = 0 if section.kind is Kind.KEYS else 1
    width = section.layers * out.geometry.width(component)
    tokens = meta.tokens - meta.sinks
    view = memoryview(section.payload)
    at = 4 + 4 * section.layers
    side = int.from_bytes(view[:4], "little")
    if len(view) < at + side:
        raise damaged("A section is cut short; fetch the chunk again.")
    steps = np.frombuffer(view, dtype="<f4", count=section.layers, offset=4)
    try:
        raw = zlib.decompressobj().decompress(bytes(view[at : at + side]), 3 * width + 1)
    except zlib.error:
        raise damaged("A section's means are damaged; fetch the chunk again.") from None
    if len(raw) != 3 * width or not np.isfinite(steps).all():
        raise damaged("A section's means have the wrong size; fetch the chunk again.")
    classes = np.frombuffer(raw, dtype=np.uint8, count=width)
    mean = np.frombuffer(raw, dtype="<f2", offset=width).astype(np.float32)
    if (classes >= TABLES).any() or not np.isfinite(mean).all():
        raise damaged("A section's tables do not exist; fetch the chunk again.")
    symbols, escapes = unpack_symbols(view[at + side :], tokens, classes, geometric_tables())
    before = zlib.crc32(
        bytes(view[4:at]) + raw, checksum_seed(section.kind, section.first_layer, section.layers)
    )
    if symbol_checksum(symbols, escapes, before) != section.symbols:
        raise damaged("A section decodes to other symbols than it was made from; fetch the chunk again.")
    cells = dequantise(symbols, escapes, 1.0, np.zeros(width, dtype=np.uint8), plain_centres(1))
    x = torch.from_numpy(cells * np.repeat(steps, width // section.layers) + mean)
    target = out.part(component)[section.first_layer : section.first_layer + section.layers, :, meta.sinks :]
    Rotary(meta.rotary, meta.theta).unflatten(x, target, meta.start + meta.sinks, keys=component == 0)
