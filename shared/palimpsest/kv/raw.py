"""Keys and values as raw elements, as calls carry them: keys, then values, row-major, little-endian."""

from collections.abc import Iterator

import torch

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.kv.layout import DTYPES, Geometry, KeyValues

FRAME_BYTES = 1 << 20


def raw_size(geometry: Geometry, tokens: int, dtype: str) -> int:
    """Return the bytes that a cache of this shape takes."""
    return geometry.values_per_token * tokens * DTYPES[dtype].itemsize


def raw_frames(kv: KeyValues, size: int = FRAME_BYTES) -> Iterator[bytes]:
    """Yield the elements of a chunk in frames of at most ``size`` bytes; no frame holds both keys and values."""
    for part in (kv.keys, kv.values):
        elements = part.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data
        for at in range(0, len(elements), size):
            yield bytes(elements[at : at + size])


def from_raw(
    data: bytes | bytearray, geometry: Geometry, tokens: int, dtype: str, start: int = 0
) -> KeyValues:
    """Build keys and values from their elements; a bytearray is used in place.

    Raises
    ------
    InvalidArgument
        There are more or fewer bytes than the shape takes.
    """
    if len(data) != raw_size(geometry, tokens, dtype):
        raise InvalidArgument(
            Reason.KV_SHAPE,
            f"A cache of this shape takes {raw_size(geometry, tokens, dtype)} bytes, not {len(data)}.",
            metadata={"expected": raw_size(geometry, tokens, dtype), "found": len(data)},
        )
    elements = torch.frombuffer(bytearray(data) if isinstance(data, bytes) else data, dtype=DTYPES[dtype])
    heads = (geometry.layers, geometry.kv_heads, tokens)
    keys, values = elements.split([geometry.layers * tokens * geometry.width(part) for part in (0, 1)])
    return KeyValues(keys.view(*heads, geometry.key_dim), values.view(*heads, geometry.value_dim), start)
