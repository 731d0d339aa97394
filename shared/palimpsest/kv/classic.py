"""CacheGen's own scheme (section 5.2): 10-token groups, 8-bit anchors, deltas to them, coarser with depth.

Kept for fidelity and comparison. What the paper leaves open is fixed here: bins are multiples of the standard
deviation of a (layer, channel)'s deltas; deltas are taken against the *reconstructed* anchor, so that its error does
not add up; a short last group is a group; what does not fit a byte is escaped; means are static and subtracted, so that
the deltas are not credited with removing them. Keys stay rotated. Each (layer, channel) has an offline table for its
anchors and one for its deltas, out of 64 shared shapes.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch

from palimpsest.kv.coding.quantiser import (
    choose_classes,
    count_symbols,
    dequantise,
    measure_error,
    pack_symbols,
    plain_centres,
    quantise,
    symbol_checksum,
    unpack_symbols,
)
from palimpsest.kv.coding.tables import ALPHABET, frequencies_from_counts
from palimpsest.kv.header import ChunkMeta, Kind, Section, checksum_seed, damaged
from palimpsest.kv.layout import Geometry, KeyValues
from palimpsest.kv.level_tables import ClassicTables
from palimpsest.kv.profile import CalibrationProfile

GROUP = 10
"""Tokens of a group; the first is its anchor."""
BINS = (0.5, 1.0, 1.5)
"""Cell widths of the first, middle and last third of the layers, in deviations of the deltas (appendix C)."""
SCALES = {"near-lossless": 0.125, "high": 0.1875, "balanced": 0.25, "compact": 0.5, "smallest": 1.0}
"""What a level multiplies the bins by; the paper's own are ``smallest``."""
TABLES = 64


def bins(geometry: Geometry) -> np.ndarray:
    """Return each layer's bin, ``[layers]``: three equal thirds."""
    return np.array([BINS[3 * layer // geometry.layers] for layer in range(geometry.layers)])


def calibrate_classic(
    caches: Sequence[KeyValues] | Iterable[KeyValues], geometry: Geometry, sinks: int
) -> ClassicTables:
    """Measure means, scales and tables in three passes over sample caches."""
    wide = max(geometry.key_width, geometry.value_width)
    shape = (2, geometry.layers, wide)
    total, mean = np.zeros(shape), np.zeros(shape)
    tokens = 0
    for kv in caches:
        body = kv[max(0, sinks - kv.start) :]
        for component in (0, 1):
            width = geometry.width(component)
            total[component, :, :width] += _rows(body, component).sum(1, dtype=np.float64)
        tokens += body.tokens
    mean = (total / tokens).astype(np.float32)
    largest, squares, deltas = np.full(shape, 1e-6), np.zeros(shape), 0
    for kv in caches:
        body = kv[max(0, sinks - kv.start) :]
        anchors = _anchor_rows(body.tokens)
        for component in (0, 1):
            width = geometry.width(component)
            rows = _rows(body, component) - mean[component, :, None, :width]
            view = largest[component, :, :width]
            np.maximum(view, np.abs(rows).max(1), out=view)
            delta = rows - rows[:, anchors[_group_of(body.tokens)]]
            squares[component, :, :width] += np.square(delta, dtype=np.float64).sum(1)
        deltas += body.tokens - len(anchors)
    tables = ClassicTables(
        mean,
        (largest / 127).astype(np.float32),
        np.maximum(np.sqrt(squares / max(1, deltas)), 1e-6).astype(np.float32),
        {},
    )
    counts = {name: np.zeros((2, *shape, ALPHABET), dtype=np.uint32) for name in SCALES}
    for kv in caches:
        body = kv[max(0, sinks - kv.start) :]
        for component in (0, 1):
            for layer in range(geometry.layers):
                for name, scale in SCALES.items():
                    anchors, deltas_ = _symbols(body, tables, component, layer, 1, scale)
                    count_symbols(anchors[1], counts[name][0, component, layer])
                    count_symbols(deltas_[1], counts[name][1, component, layer])
    for name, scale in SCALES.items():
        flat = counts[name].reshape(-1, ALPHABET)
        used = flat.sum(1) > 0
        classes = np.zeros(len(flat), dtype=np.uint8)
        classes[used], totals = choose_classes(flat[used], TABLES)
        tables.levels[name] = (scale, classes.reshape(2, *shape), frequencies_from_counts(totals))
    return tables


def encode_group(
    kv: KeyValues, profile: CalibrationProfile, component: int, group: int, levels: Sequence[str]
) -> dict[str, Section]:
    """Code keys (0) or values (1) of a group of layers at several levels."""
    first, layers = profile.groups[group]
    paper = profile.require_classic(levels)
    section_kind = (Kind.KEYS, Kind.VALUES)[component]
    result = {}
    for name in levels:
        scale, classes, _ = paper.levels[name]
        parts = _symbols(kv, paper, component, first, layers, scale)
        _, *units = _steps(paper, kv.geometry, component, first, layers, scale)
        crc = checksum_seed(section_kind, first, layers)
        payloads, squares, worst = [], 0.0, 0.0
        for kind, ((cells, symbols, escapes), unit) in enumerate(zip(parts, units, strict=True)):
            columns = _columns(classes[kind, component], kv.geometry, component, first, layers)
            payloads.append(pack_symbols(symbols, escapes, columns, paper.tables[name]))
            crc = symbol_checksum(symbols, escapes, crc)
            some, most = measure_error(
                cells, symbols, 1.0, np.zeros(len(columns), dtype=np.uint8), plain_centres(1), unit
            )
            squares, worst = squares + some, max(worst, most)
        head = np.uint32(len(payloads[0])).astype("<u4").tobytes()
        error = math.sqrt(squares / (kv.tokens * layers * kv.geometry.width(component)))
        result[name] = Section(section_kind, first, layers, head + b"".join(payloads), crc, error, worst)
    return result


def decode_group(section: Section, meta: ChunkMeta, profile: CalibrationProfile, out: KeyValues) -> None:
    """Decode one section of keys or values into its layers of ``out``.

    Raises
    ------
    DataLoss
        The section does not decode to the symbols it was made from.
    """
    component = 0 if section.kind is Kind.KEYS else 1
    paper = profile.require_classic([meta.level])
    scale, classes, _ = paper.levels[meta.level]
    first, layers, geometry = section.first_layer, section.layers, out.geometry
    tokens = meta.tokens - meta.sinks
    anchors = _anchor_rows(tokens)
    view = memoryview(section.payload)
    cut = 4 + int.from_bytes(view[:4], "little")
    if len(view) < 4 or cut > len(view):
        raise damaged("A section is cut short; fetch the chunk again.")
    crc, parts = checksum_seed(section.kind, first, layers), []
    for kind, (payload, rows) in enumerate(
        ((view[4:cut], len(anchors)), (view[cut:], tokens - len(anchors)))
    ):
        columns = _columns(classes[kind, component], geometry, component, first, layers)
        symbols, escapes = unpack_symbols(payload, rows, columns, paper.tables[meta.level])
        crc = symbol_checksum(symbols, escapes, crc)
        parts.append(
            dequantise(symbols, escapes, 1.0, np.zeros(len(columns), dtype=np.uint8), plain_centres(1))
        )
    if crc != section.symbols:
        raise damaged("A section decodes to other symbols than it was made from; fetch the chunk again.")
    mean, anchor_step, delta_step = _steps(paper, geometry, component, first, layers, scale)
    rebuilt = parts[0] * anchor_step
    rows = rebuilt[_group_of(tokens)]
    rows[_delta_rows(tokens)] += parts[1] * delta_step
    x = torch.from_numpy(rows + mean)
    target = out.part(component)[first : first + layers, :, meta.sinks :]
    profile.rotary.unflatten(x, target, meta.start + meta.sinks, keys=False)


def _symbols(
    kv: KeyValues, paper: ClassicTables, component: int, first: int, layers: int, scale: float
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Quantise anchors, then deltas against what a decoder will make of them: cells, symbols, escapes of each."""
    geometry = kv.geometry
    mean, anchor_step, delta_step = _steps(paper, geometry, component, first, layers, scale)
    part = kv.part(component)[first : first + layers].float()
    rows = part.permute(2, 0, 1, 3).reshape(kv.tokens, -1).numpy() - mean
    anchors = _anchor_rows(kv.tokens)
    scaled = rows[anchors] / anchor_step
    coded = quantise(scaled, 1.0, scaled.shape[1])
    rebuilt = (
        dequantise(*coded, 1.0, np.zeros(scaled.shape[1], dtype=np.uint8), plain_centres(1)) * anchor_step
    )
    deltas = _delta_rows(kv.tokens)
    away = (rows[deltas] - rebuilt[_group_of(kv.tokens)[deltas]]) / delta_step
    away = np.ascontiguousarray(away, dtype=np.float32)
    return (scaled, *coded), (away, *quantise(away, 1.0, scaled.shape[1]))


def _steps(
    paper: ClassicTables, geometry: Geometry, component: int, first: int, layers: int, scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, anchor step and delta step of each column of a group."""
    cell = (paper.delta_scale[component] * (bins(geometry) * scale)[:, None]).astype(np.float32)
    return (
        _columns(paper.mean[component], geometry, component, first, layers),
        _columns(paper.anchor_scale[component], geometry, component, first, layers),
        _columns(cell, geometry, component, first, layers),
    )


def _columns(table: np.ndarray, geometry: Geometry, component: int, first: int, layers: int) -> np.ndarray:
    """Cut a group's columns out of a ``[layers, widest]`` table."""
    return np.ascontiguousarray(table[first : first + layers, : geometry.width(component)]).reshape(-1)


def _rows(kv: KeyValues, component: int) -> np.ndarray:
    part = kv.part(component).float()
    return part.permute(0, 2, 1, 3).reshape(part.shape[0], kv.tokens, -1).numpy()


def _anchor_rows(tokens: int) -> np.ndarray:
    return np.arange(0, tokens, GROUP)


def _delta_rows(tokens: int) -> np.ndarray:
    every = np.arange(tokens)
    return every[every % GROUP != 0]


def _group_of(tokens: int) -> np.ndarray:
    return np.arange(tokens) // GROUP
