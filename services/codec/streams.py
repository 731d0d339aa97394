"""Caches that callers send in frames, checked against their spec while they arrive."""

from collections.abc import AsyncIterator

from palimpsest.api.codec.v1 import codec_pb2 as pb
from palimpsest.errors import InvalidArgument, Reason, ResourceExhausted
from palimpsest.kv import Geometry, KeyValues
from palimpsest.kv.raw import from_raw, raw_size

FRAME = 256 << 10


class CacheBuffer:
    """Collects one chunk's elements; see ``palimpsest.kv.raw``.

    Parameters
    ----------
    shape
        Of the whole cache.
    start, tokens
        The chunk.
    limit
        Largest chunk, in bytes.

    Raises
    ------
    ResourceExhausted
        KV_TOO_LARGE.
    """

    def __init__(self, shape: pb.CacheShape, start: int, tokens: int, limit: int) -> None:
        self._geometry, self._dtype = geometry_of(shape), shape.dtype
        self._start, self._tokens = start, tokens
        self._size = raw_size(self._geometry, tokens, shape.dtype)
        if self._size > limit:
            raise ResourceExhausted(
                Reason.KV_TOO_LARGE,
                f"A chunk of {tokens} tokens takes {self._size} bytes, and at most {limit} are taken at once: use "
                "shorter chunks.",
                metadata={"bytes": self._size, "limit": limit},
            )
        self._data = bytearray()

    @property
    def missing(self) -> int:
        """Bytes still to come."""
        return self._size - len(self._data)

    def take(self, data: bytes) -> bytes:
        """Add the bytes that belong to this chunk; returns the rest."""
        count = min(len(data), self.missing)
        self._data += data[:count]
        return data[count:]

    def keys_values(self) -> KeyValues:
        """The chunk, once nothing is missing."""
        return from_raw(self._data, self._geometry, self._tokens, self._dtype, self._start)


async def chunks_of(
    parts: AsyncIterator[bytes], shape: pb.CacheShape, chunk_tokens: int, limit: int
) -> AsyncIterator[KeyValues]:
    """Cut frames into the chunks they hold, one in memory at a time.

    Parameters
    ----------
    parts
        Data of the messages, in order.
    shape
        Of the whole cache.
    chunk_tokens
        Tokens of every chunk but the last.
    limit
        Largest chunk, in bytes.

    Raises
    ------
    InvalidArgument
        KV_SHAPE: there are fewer or more bytes than the shape takes.
    ResourceExhausted
        KV_TOO_LARGE.
    """
    rest = b""
    for start in range(0, shape.tokens, chunk_tokens):
        buffer = CacheBuffer(shape, shape.start + start, min(chunk_tokens, shape.tokens - start), limit)
        rest = buffer.take(rest)
        while buffer.missing:
            part = await anext(parts, None)
            if part is None:
                raise InvalidArgument(
                    Reason.KV_SHAPE,
                    f"The stream ended {buffer.missing} bytes before chunk {start // chunk_tokens} was whole; "
                    "nothing is stored.",
                    metadata={"missing": buffer.missing},
                )
            rest = buffer.take(part)
        yield buffer.keys_values()
    if rest or await anext(parts, None) is not None:
        raise InvalidArgument(
            Reason.KV_SHAPE, "There are more bytes than the shape takes; nothing is stored."
        )


def geometry_of(shape: pb.CacheShape) -> Geometry:
    """The shape of one token."""
    return Geometry(shape.layers, shape.kv_heads, shape.key_dim, shape.value_dim)
