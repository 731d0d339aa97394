"""The transform codec: un-rotate, subtract the mean, decorrelate across layers, quantise evenly, entropy-code.

Sections come in layer order: for each group of layers the sinks (first chunk only), the keys, the values, so that a
reader can use the first layers while the last are on their way.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from palimpsest.kv.coding.quantiser import (
    dequantise,
    measure_error,
    pack_symbols,
    quantise,
    symbol_checksum,
    unpack_symbols,
)
from palimpsest.kv.header import ChunkMeta, Kind, Section, checksum_seed, damaged
from palimpsest.kv.layout import KeyValues
from palimpsest.kv.level_tables import LevelTables
from palimpsest.kv.profile import CalibrationProfile
from palimpsest.processor import bfloat16_products


def coefficients(kv: KeyValues, profile: CalibrationProfile, component: int, group: int) -> np.ndarray:
    """Return the weighted, decorrelated coefficients of a group of layers.

    Parameters
    ----------
    kv
        Tokens without sinks.
    profile
        Of the model.
    component
        0 keys, 1 values.
    group
        Which group.

    Returns
    -------
    numpy.ndarray
        ``[tokens, n]`` float32.
    """
    first, layers = profile.groups[group]
    x = profile.rotary.flatten(kv.part(component)[first : first + layers], kv.start, keys=component == 0)
    return torch.mm(x - profile.mean(component, group), profile.forward(component, group)).numpy()


def encode_group(
    kv: KeyValues, profile: CalibrationProfile, component: int, group: int, levels: Sequence[str]
) -> dict[str, Section]:
    """Code keys (0) or values (1) of a group at several levels, which share the transform."""
    first, layers = profile.groups[group]
    kind = (Kind.KEYS, Kind.VALUES)[component]
    y = coefficients(kv, profile, component, group)
    result = {}
    for name in levels:
        level = profile.level(name)
        classes = _classes(level, component, group)
        symbols, escapes = quantise(y, level.step, len(classes))
        payload = pack_symbols(symbols, escapes, classes, level.tables)
        squares, worst = measure_error(
            y, symbols, level.step, classes, level.centres, np.ones(y.shape[1], dtype=np.float32)
        )
        crc = symbol_checksum(symbols, escapes, checksum_seed(kind, first, layers))
        result[name] = Section(kind, first, layers, payload, crc, math.sqrt(squares / y.size), worst)
    return result


def decode_group(section: Section, meta: ChunkMeta, profile: CalibrationProfile, out: KeyValues) -> None:
    """Decode one section of keys or values into its layers of ``out``.

    Parameters
    ----------
    section
        The section, its bytes already checked.
    meta
        Of its chunk.
    profile
        What it was coded with.
    out
        The whole chunk; tokens after the sinks are written.

    Raises
    ------
    DataLoss
        The section does not decode to the symbols it was made from.
    """
    level = profile.level(meta.level)
    component = 0 if section.kind is Kind.KEYS else 1
    group = group_of(profile, section.first_layer, section.layers)
    classes = _classes(level, component, group)
    tokens = meta.tokens - meta.sinks
    symbols, escapes = unpack_symbols(section.payload, tokens, classes, level.tables)
    before = checksum_seed(section.kind, section.first_layer, section.layers)
    if symbol_checksum(symbols, escapes, before) != section.symbols:
        raise damaged("A section decodes to other symbols than it was made from; fetch the chunk again.")
    y = torch.from_numpy(dequantise(symbols, escapes, level.step, classes, level.centres))
    mean = profile.mean(component, group)
    if meta.dtype == "bfloat16" and bfloat16_products():
        # Twice as fast; what it rounds is far below a cell's width, and the result is rounded to bfloat16 anyway.
        x = mean + torch.mm(y.bfloat16(), profile.bases[component][group][: len(classes)])
    else:
        x = torch.addmm(mean, y, profile.inverse(component, group)[: len(classes)])
    target = out.part(component)[section.first_layer : section.first_layer + section.layers, :, meta.sinks :]
    profile.rotary.unflatten(x, target, meta.start + meta.sinks, keys=component == 0)


def group_of(profile: CalibrationProfile, first: int, layers: int) -> int:
    """Return which group of the profile some layers are.

    Raises
    ------
    DataLoss
        KV_DAMAGED: they are not a group of the profile.
    """
    if (first, layers) not in profile.groups:
        raise damaged("A section covers layers that are not a group of the profile.")
    return profile.groups.index((first, layers))


def _classes(level: LevelTables, component: int, group: int) -> np.ndarray:
    return level.classes[component, group, : int(level.kept[component, group])]
