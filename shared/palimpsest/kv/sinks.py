"""The first tokens of a context, kept apart: 8 bits a value with a scale for each token and head.

Attention concentrates on them whatever their text (attention sinks), and their distribution is unlike that of other
tokens: the transform would lose too much quality on them, and 8 bits are as good as exact.
"""

import math
import zlib

import numpy as np
import torch

from palimpsest.kv.header import ChunkMeta, Kind, Section, checksum_seed, damaged
from palimpsest.kv.layout import KeyValues


def encode_sinks(kv: KeyValues, first: int, layers: int) -> Section:
    """Code keys and values of the sink tokens ``kv`` in a group of layers."""
    payload, squares, worst, count = [], 0.0, 0.0, 0
    for component in (0, 1):
        part = kv.part(component)[first : first + layers].float()
        scale = (part.abs().amax(-1, keepdim=True) / 127).clamp_min(1e-12)
        cells = (part / scale).round().to(torch.int8)
        payload += [scale.numpy().astype("<f4").tobytes(), cells.numpy().tobytes()]
        away = (part - cells * scale).abs()
        squares, worst = squares + float(away.double().square().sum()), max(worst, float(away.max()))
        count += away.numel()
    whole = b"".join(payload)
    crc = zlib.crc32(whole, checksum_seed(Kind.SINKS, first, layers))
    return Section(Kind.SINKS, first, layers, whole, crc, math.sqrt(squares / count), worst)


def sink_bytes(meta: ChunkMeta, layers: int) -> int:
    """Return how long a section of sink tokens is: it depends on its shape alone."""
    return layers * meta.kv_heads * meta.sinks * (8 + meta.key_dim + meta.value_dim)


def decode_sinks(section: Section, meta: ChunkMeta, out: KeyValues) -> None:
    """Decode a group's sink tokens into ``out``.

    Raises
    ------
    DataLoss
        The section has not the size its chunk asks for, or belongs elsewhere.
    """
    rows = section.layers * meta.kv_heads * meta.sinks
    sizes = [rows * (4 + dim) for dim in (meta.key_dim, meta.value_dim)]
    if sum(sizes) != len(section.payload):
        raise damaged("A section of sink tokens has the wrong size; fetch the chunk again.")
    if (
        zlib.crc32(section.payload, checksum_seed(section.kind, section.first_layer, section.layers))
        != section.symbols
    ):
        raise damaged("A section of sink tokens is not the one written here; fetch the chunk again.")
    at = 0
    for component, dim in enumerate((meta.key_dim, meta.value_dim)):
        scale = np.frombuffer(section.payload, dtype="<f4", count=rows, offset=at)
        cells = np.frombuffer(section.payload, dtype=np.int8, count=rows * dim, offset=at + 4 * rows)
        at += sizes[component]
        target = out.part(component)[
            section.first_layer : section.first_layer + section.layers, :, : meta.sinks
        ]
        target.copy_(torch.from_numpy(cells.reshape(rows, dim) * scale[:, None]).view(target.shape))
