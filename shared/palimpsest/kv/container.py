"""The stored form of a chunk: bounded before anything is allocated, checksummed, bound to the model it came from.

Little-endian, no pickle::

    magic 8 | major 1 | minor 1 | zero 2 | meta length 4 | sections 4 | total length 8 | CRC-32 4
    meta: JSON, see ChunkMeta
    directory: one entry of 28 bytes for each section
    sections, in layer order, without gaps
    footer: total length 8 | CRC-32 of all before the sections 4 | commit marker 4

The header's checksum covers meta and directory, each section has one over its bytes and one over the symbols they
decode to, and the marker is written last. A newer minor version adds fields that readers may ignore; what they may
not ignore is named in ``requires``.
"""

import json
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palimpsest.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    Reason,
    ResourceExhausted,
    Unimplemented,
)

MAGIC = b"\x89PLKV\r\n\x1a"
MAJOR, MINOR = 1, 0
COMMIT = b"kept"
META_LIMIT = 1 << 16
"""Bytes of metadata; a writer needs one hundredth. JSON may unfold to a hundred times its length while it is read."""
SECTION_LIMIT = 4096
DECODED_LIMIT = 4 << 30
"""Bytes a chunk may decode to unless the caller says otherwise."""
EXPANSION_LIMIT = 1024
"""Times its own length that a chunk may decode to unless the caller says otherwise.

Real caches come to 10 to 40 at the coarsest level, but an honest chunk may lie far beyond: a symbol may take
as little as a twelfth of a bit (``rans.least_bytes``), which makes 384 of a float32, and a profile leaves out the
coefficients that never leave zero. Padded and constant stretches come near that, and a lower limit would refuse what
``encode`` writes. A bomb gains nothing by it: before memory is taken, each section is checked to be long enough for
its symbols.
"""

_HEAD = struct.Struct("<8sBBHIIQI")
_ENTRY = struct.Struct("<BBHHHIIIff")
_FOOT = struct.Struct("<QI4s")
FOOTER_SIZE = _FOOT.size

Buffer = bytes | bytearray | memoryview
Digest = Annotated[str, Field(max_length=128)]
Count = Annotated[int, Field(ge=1, le=1 << 20)]


class Kind(IntEnum):
    """What a section holds."""

    SINKS = 1
    KEYS = 2
    VALUES = 3


class Identity(BaseModel):
    """What a chunk belongs to. Empty fields are unknown and match nothing but empty ones."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: Digest = ""
    """Fingerprint of weights and config."""
    tokenizer: Digest = ""
    prefix: Digest = ""
    """Digest of the token ids up to the end of this chunk, so that a swapped chunk is noticed."""


class _Required(BaseModel):
    """What a reader has to know before it may make sense of the rest."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    requires: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=64)] = []


class ChunkMeta(_Required):
    """Everything about a chunk that is not in its directory."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    codec: Literal["transform", "classic", "generic", "lossless"]
    level: Annotated[str, Field(max_length=64)]
    profile: Digest = ""
    identity: Identity = Identity()
    layers: Annotated[int, Field(ge=1, le=4096)]
    kv_heads: Annotated[int, Field(ge=1, le=4096)]
    key_dim: Annotated[int, Field(ge=1, le=4096)]
    value_dim: Annotated[int, Field(ge=1, le=4096)]
    dtype: Literal["bfloat16", "float16", "float32"]
    tokens: Count
    start: Annotated[int, Field(ge=0, le=1 << 30)] = 0
    sinks: Annotated[int, Field(ge=0, le=64)] = 0
    rotary: Literal["none", "half"] = "none"
    theta: Annotated[float, Field(gt=1.0, lt=1e12)] = 10_000.0

    @property
    def values(self) -> int:
        """Numbers in the decoded chunk."""
        return self.tokens * self.layers * self.kv_heads * (self.key_dim + self.value_dim)

    @property
    def decoded_bytes(self) -> int:
        """Bytes of the decoded chunk."""
        return self.values * (4 if self.dtype == "float32" else 2)


@dataclass(frozen=True)
class Section:
    """One section, before it is written or after it is read.

    Parameters
    ----------
    kind
        What it holds.
    first_layer, layers
        Which layers.
    payload
        Its bytes.
    symbols
        CRC-32 of the section's place, its quantised symbols and whatever else it decodes to: integers, so that the
        check holds on any device.
    error, worst
        Root mean square and largest error when it was encoded, in the codec's own weighting (of coefficients for
        ``transform``, of keys and values themselves otherwise); 0 where nothing is lost.
    """

    kind: Kind
    first_layer: int
    layers: int
    payload: Buffer
    symbols: int = 0
    error: float = 0.0
    worst: float = 0.0


@dataclass(frozen=True)
class Entry:
    """A section's line in the directory."""

    kind: Kind
    first_layer: int
    layers: int
    offset: int
    length: int
    payload_crc: int
    symbols_crc: int
    error: float
    worst: float


@dataclass(frozen=True)
class Header:
    """A chunk's header, checked."""

    meta: ChunkMeta
    entries: tuple[Entry, ...]
    size: int
    total: int
    crc: int

    def section(self, index: int, payload: Buffer) -> Section:
        """Check one section's bytes against the directory.

        Raises
        ------
        DataLoss
            The bytes are not those that were written.
        """
        entry = self.entries[index]
        if len(payload) != entry.length or zlib.crc32(payload) != entry.payload_crc:
            raise damaged(
                "A section's bytes are not those that were written; fetch the chunk again.", entry.offset
            )
        return Section(
            entry.kind,
            entry.first_layer,
            entry.layers,
            payload,
            entry.symbols_crc,
            entry.error,
            entry.worst,
        )


def damaged(message: str, offset: int = 0) -> DataLoss:
    """Build the error for stored bytes that cannot be right, with the offset of the first wrong part."""
    return DataLoss(Reason.KV_DAMAGED, message, metadata={"offset": offset})


def place(kind: Kind, first_layer: int, layers: int) -> int:
    """Return what a section's symbol checksum starts from, so that it fits no other place in the chunk."""
    return zlib.crc32(struct.pack("<BHH", kind, first_layer, layers))


def pack(meta: ChunkMeta, sections: Sequence[Section]) -> bytes:
    """Write a chunk.

    Raises
    ------
    InvalidArgument
        A section is longer than the directory can say.
    """
    if max(len(s.payload) for s in sections) >= 1 << 32:
        raise InvalidArgument(
            Reason.KV_TOO_LARGE, "A section comes to more than 4 GiB; cut the context into shorter chunks."
        )
    text = json.dumps(meta.model_dump(exclude_defaults=True), separators=(",", ":")).encode()
    directory = b"".join(
        _ENTRY.pack(
            s.kind,
            0,
            s.first_layer,
            s.layers,
            0,
            len(s.payload),
            zlib.crc32(s.payload),
            s.symbols,
            s.error,
            s.worst,
        )
        for s in sections
    )
    size = _HEAD.size + len(text) + len(directory)
    total = size + sum(len(s.payload) for s in sections) + _FOOT.size
    head = _HEAD.pack(MAGIC, MAJOR, MINOR, 0, len(text), len(sections), total, 0)
    crc = zlib.crc32(directory, zlib.crc32(text, zlib.crc32(head[:-4])))
    head = head[:-4] + struct.pack("<I", crc)
    return b"".join([head, text, directory, *(s.payload for s in sections), _FOOT.pack(total, crc, COMMIT)])


def header_size(data: Buffer) -> int:
    """Return how many bytes the header takes, from the first 32 of them.

    Raises
    ------
    InvalidArgument
        This is not a chunk.
    Unimplemented
        A newer major version wrote it.
    DataLoss
        Its sizes are beyond what any writer makes.
    """
    if len(data) < _HEAD.size:
        raise damaged("The chunk is cut short within its header; fetch it again.", len(data))
    magic, major, _, _, meta, sections, total, _ = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise InvalidArgument(Reason.KV_FORMAT_UNKNOWN, "These bytes are not a chunk of keys and values.")
    if major != MAJOR:
        raise Unimplemented(
            Reason.KV_FORMAT_UNKNOWN, f"Chunk format {major} is newer than this reader's {MAJOR}."
        )
    size = _HEAD.size + meta + sections * _ENTRY.size
    if meta > META_LIMIT or not 0 < sections <= SECTION_LIMIT or size + _FOOT.size > total:
        raise damaged("The chunk's header gives impossible sizes; fetch it again.")
    return size


def read_header(
    data: Buffer, *, decoded_limit: int = DECODED_LIMIT, expansion_limit: int = EXPANSION_LIMIT
) -> Header:
    """Parse and check a chunk's header; later bytes are not looked at.

    Parameters
    ----------
    data
        At least ``header_size(data)`` bytes.
    decoded_limit
        Bytes the chunk may decode to.
    expansion_limit
        Times its own length that it may decode to.

    Raises
    ------
    InvalidArgument, Unimplemented
        See ``header_size``; also features this reader does not know.
    DataLoss
        The header is damaged or contradicts itself.
    ResourceExhausted
        It decodes to more than the limit, or to far more than its bytes can hold.
    """
    size = header_size(data)
    if len(data) < size:
        raise damaged("The chunk is cut short within its header; fetch it again.", len(data))
    view = memoryview(data)
    _, _, _, _, meta_length, count, total, crc = _HEAD.unpack_from(view)
    if zlib.crc32(view[_HEAD.size : size], zlib.crc32(view[: _HEAD.size - 4])) != crc:
        raise damaged("The chunk's header is damaged; fetch it again.")
    text = bytes(view[_HEAD.size : _HEAD.size + meta_length])
    try:
        # First, for what is required may be the very thing that makes the rest of the header look wrong.
        required = _Required.model_validate_json(text).requires
        if required:
            raise Unimplemented(
                Reason.KV_FORMAT_UNKNOWN,
                f"The chunk needs {', '.join(required)}, which this reader lacks; upgrade it.",
                metadata={"requires": ",".join(required)},
            )
        meta = ChunkMeta.model_validate_json(text)
    except ValidationError as wrong:
        raise damaged(f"The chunk's header makes no sense: {wrong.errors()[0]['msg']}.", _HEAD.size) from None
    lines = [_ENTRY.unpack_from(view, _HEAD.size + meta_length + at * _ENTRY.size) for at in range(count)]
    starts = list(accumulate((line[5] for line in lines), initial=size))
    if starts[-1] + _FOOT.size != total:
        raise damaged("The chunk's sections do not add up to its length; fetch it again.")
    entries = []
    for line, offset in zip(lines, starts, strict=False):
        kind, _, first, layers, _, length, payload_crc, symbols_crc, error, worst = line
        if kind not in set(Kind) or layers < 1 or first + layers > meta.layers:
            raise damaged("The chunk's directory names layers or kinds that do not exist.", offset)
        if not (math.isfinite(error) and math.isfinite(worst)):
            raise damaged("The chunk's directory gives errors that are no numbers.", offset)
        entries.append(
            Entry(Kind(kind), first, layers, offset, length, payload_crc, symbols_crc, error, worst)
        )
    if meta.sinks > meta.tokens:
        raise damaged("The chunk says it has more sink tokens than tokens.")
    if meta.rotary != "none" and meta.key_dim % 2:
        raise damaged("The chunk says it rotates heads of an odd number of elements.")
    if meta.decoded_bytes > min(decoded_limit, total * expansion_limit):
        raise ResourceExhausted(
            Reason.KV_TOO_LARGE,
            f"The chunk would decode to {meta.decoded_bytes} bytes; ask for a smaller one or raise the limit.",
            metadata={
                "decoded_bytes": meta.decoded_bytes,
                "limit": decoded_limit,
                "expansion_limit": expansion_limit,
            },
        )
    return Header(meta, tuple(entries), size, total, crc)


def unpack(data: Buffer, *, decoded_limit: int = DECODED_LIMIT) -> tuple[ChunkMeta, list[Section]]:
    """Read a whole chunk, checking every byte of it.

    Raises
    ------
    InvalidArgument, Unimplemented, DataLoss, ResourceExhausted
        See ``read_header`` and ``Header.section``.
    """
    header = read_header(data, decoded_limit=decoded_limit)
    view = memoryview(data)
    if len(view) != header.total:
        raise damaged("The chunk has not the length its header gives; fetch it again.", len(view))
    check_footer(header, view[-_FOOT.size :])
    sections = [
        header.section(index, view[entry.offset : entry.offset + entry.length])
        for index, entry in enumerate(header.entries)
    ]
    return header.meta, sections


def check_footer(header: Header, footer: Buffer) -> None:
    """Check that the chunk was written to its end.

    Raises
    ------
    DataLoss
        It was not.
    """
    if bytes(footer) != _FOOT.pack(header.total, header.crc, COMMIT):
        raise damaged("The chunk was not written to its end; fetch it again.", header.total - _FOOT.size)


def check_identity(found: Identity, expected: Identity) -> None:
    """Refuse a chunk of another model, tokenizer or prefix.

    Raises
    ------
    FailedPrecondition
        It belongs to something else; the metadata says what.
    """
    for name in Identity.model_fields:
        if getattr(found, name) != getattr(expected, name):
            raise FailedPrecondition(
                Reason.KV_IDENTITY_MISMATCH,
                f"The chunk was made with another {name}; encode the context again with this one.",
                metadata={"field": name, "found": getattr(found, name), "expected": getattr(expected, name)},
            )
