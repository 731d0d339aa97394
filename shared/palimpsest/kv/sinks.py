"""The first tokens of a context, kept apart: 8 bits a value with a scale for each token and head.

Attention rests on them whatever they say (attention sinks), and they look like no other token: through the transform
they would cost quality out of proportion, and 8 bits are as good as exact.
"""

import numpy as np
import torch

from palimpsest.kv.container import ChunkMeta, Kind, Section, damaged
from palimpsest.kv.layout import KeyValues


def encode_sinks(kv: KeyValues, first: int, layers: int) -> Section:
    """Code keys and values of the sink tokens ``kv`` in a group of layers."""
    payload = []
    for component in (0, 1):
        part = kv.part(component)[first : first + layers].float()
        scale = (part.abs().amax(-1, keepdim=True) / 127).clamp_min(1e-12)
        cells = (part / scale).round().to(torch.int8)
        payload += [scale.numpy().astype("<f4").tobytes(), cells.numpy().tobytes()]
    return Section(Kind.SINKS, first, layers, b"".join(payload))


def decode_sinks(section: Section, meta: ChunkMeta, out: KeyValues) -> None:
    """Decode a group's sink tokens into ``out``.

    Raises
    ------
    DataLoss
        The section has not the size its chunk asks for.
    """
    rows = section.layers * meta.kv_heads * meta.sinks
    sizes = [rows * (4 + dim) for dim in (meta.key_dim, meta.value_dim)]
    if sum(sizes) != len(section.payload):
        raise damaged("A section of sink tokens has the wrong size; fetch the chunk again.")
    at = 0
    for component, dim in enumerate((meta.key_dim, meta.value_dim)):
        scale = np.frombuffer(section.payload, dtype="<f4", count=rows, offset=at)
        cells = np.frombuffer(section.payload, dtype=np.int8, count=rows * dim, offset=at + 4 * rows)
        at += sizes[component]
        target = out.part(component)[
            section.first_layer : section.first_layer + section.layers, :, : meta.sinks
        ]
        target.copy_(torch.from_numpy(cells.reshape(rows, dim) * scale[:, None]).view(target.shape))
