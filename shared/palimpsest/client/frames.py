"""KV caches in the codec's streams: a spec, then frames of elements; and coded chunks joined from their frames."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from palimpsest.api.codec.v1 import codec_pb2
from palimpsest.client.decoder import load_codec
from palimpsest.errors import DataLoss, Reason

if TYPE_CHECKING:
    from palimpsest.kv import KeyValues

CHUNK_TOKENS = 512
"""What the contract takes for a chunk_tokens of 0."""

FRAME_BYTES = 1 << 20


def as_key_values(kv: Any) -> "KeyValues":
    """Take a transformers ``DynamicCache`` (its first row) or keys and values as they are."""
    load_codec()
    from palimpsest.kv import KeyValues, from_cache

    return kv if isinstance(kv, KeyValues) else from_cache(kv)


def shape_of(kv: "KeyValues") -> codec_pb2.CacheShape:
    """Describe a cache to the server."""
    g = kv.geometry
    return codec_pb2.CacheShape(
        layers=g.layers,
        kv_heads=g.kv_heads,
        key_dim=g.key_dim,
        value_dim=g.value_dim,
        dtype=kv.dtype_name,
        tokens=kv.tokens,
        start=kv.start,
    )


def frames_of(kv: "KeyValues", chunk_tokens: int = 0) -> Iterator[bytes]:
    """Yield a cache's elements chunk by chunk: each chunk's keys, then its values."""
    from palimpsest.kv.raw import raw_frames

    for chunk in kv.chunks(chunk_tokens or kv.tokens):
        yield from raw_frames(chunk, FRAME_BYTES)


class Levels:
    """Collects coded chunks, one level after another."""

    def __init__(self) -> None:
        self._parts: dict[str, bytearray] = {}
        self._sizes: dict[str, int] = {}

    def take(self, part: codec_pb2.EncodeCacheResponse) -> None:
        """Append the next frame.

        Raises
        ------
        DataLoss
            It is not the one that was due.
        """
        data = self._parts.setdefault(part.level, bytearray())
        self._sizes[part.level] = part.size_bytes
        if part.offset != len(data):
            raise _cut_short(part.level)
        data += part.data

    def finish(self) -> dict[str, bytes]:
        """Return the bytes of each level.

        Raises
        ------
        DataLoss
            One is cut short.
        """
        for level, data in self._parts.items():
            if len(data) != self._sizes[level]:
                raise _cut_short(level)
        return {level: bytes(data) for level, data in self._parts.items()}


class Numbers:
    """Collects a decoded cache: its shape, then its elements."""

    def __init__(self) -> None:
        self._shape = codec_pb2.CacheShape()
        self._data = bytearray()

    def take(self, part: codec_pb2.DecodeCacheResponse) -> None:
        """Append the next frame."""
        if part.HasField("shape"):
            self._shape = part.shape
        self._data += part.data

    def finish(self) -> "KeyValues":
        """Return the cache.

        Raises
        ------
        InvalidArgument
            The data has more or fewer elements than its shape.
        """
        from palimpsest.kv import Geometry
        from palimpsest.kv.raw import from_raw

        s = self._shape
        geometry = Geometry(s.layers, s.kv_heads, s.key_dim, s.value_dim)
        return from_raw(self._data, geometry, s.tokens, s.dtype, s.start)


def _cut_short(level: str) -> DataLoss:
    return DataLoss(Reason.KV_DAMAGED, f"The coded chunk {level!r} is incomplete; encode it again.")
