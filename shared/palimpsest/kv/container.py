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
from itertools import accumulate

from pydantic import ValidationError

from palimpsest import json_input
from palimpsest.errors import InvalidArgument, Reason, ResourceExhausted, Unimplemented
from palimpsest.kv.header import Buffer, ChunkMeta, Entry, Header, Kind, Requirements, Section, damaged

MAGIC = b"\x89PLKV\r\n\x1a"
MAJOR, MINOR = 1, 0
COMMIT = b"kept"
META_LIMIT = 1 << 16
"""Largest metadata, in bytes; a writer needs one hundredth. JSON may grow a hundredfold while it is parsed."""
SECTION_LIMIT = 4096
DECODED_LIMIT = 4 << 30
"""Bytes a chunk may decode to unless the caller sets another limit."""
EXPANSION_LIMIT = 1024
"""How many times its own length a chunk may decode to unless the caller sets another limit.

Real caches reach 10 to 40 at the coarsest level, but a valid chunk may reach far more: a symbol takes as little as a
twelfth of a bit (``tables.least_bytes``), which is a ratio of 384 for float32, and a profile drops the coefficients
that are always zero. Padded and constant chunks come near that, so a lower limit would refuse what ``encode`` writes.
The limit is not what stops a decompression bomb: before memory is allocated, each section is checked to be long enough
for its symbols.
"""

_HEAD = struct.Struct("<8sBBHIIQI")
"""magic, major, minor, zero, meta length, sections, total length, CRC-32"""
_ENTRY = struct.Struct("<BBHHHIIIff")
"""kind, zero, first layer, layers, zero, length, payload CRC-32, symbols CRC-32, error, worst"""
_FOOT = struct.Struct("<QI4s")
"""total length, CRC-32 of the header, commit marker"""
FOOTER_SIZE = _FOOT.size


def pack(meta: ChunkMeta, sections: Sequence[Section]) -> bytes:
    """Write a chunk.

    Raises
    ------
    InvalidArgument
        KV_TOO_LARGE: a section is longer than the directory can record.
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
    """Parse and check a chunk's header; the bytes after it are not read.

    Parameters
    ----------
    data
        At least ``header_size(data)`` bytes.
    decoded_limit
        Bytes the chunk may decode to.
    expansion_limit
        How many times its own length it may decode to.

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
    meta = _read_meta(bytes(view[_HEAD.size : _HEAD.size + meta_length]))
    entries = _read_directory(view[_HEAD.size + meta_length : size], count, meta.layers, size, total)
    if meta.sinks > meta.tokens:
        raise damaged("The chunk's header gives more sink tokens than tokens.")
    if meta.rotary != "none" and meta.key_dim % 2:
        raise damaged("The chunk's header gives rotary heads with an odd number of elements.")
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
    return Header(meta, entries, size, total, crc)


def _read_meta(text: bytes) -> ChunkMeta:
    try:
        # Requirements first: a feature this reader lacks may be the very thing that makes the rest look wrong.
        found = json_input.decode(text, max_bytes=len(text))
        required = Requirements.model_validate(found).requires
        if required:
            raise Unimplemented(
                Reason.KV_FORMAT_UNKNOWN,
                f"The chunk needs {', '.join(required)}, which this reader lacks; upgrade it.",
                metadata={"requires": ",".join(required)},
            )
        return ChunkMeta.model_validate(found)
    except json_input.InvalidJson as wrong:
        raise damaged(f"The chunk's header is not usable JSON: {wrong}.", _HEAD.size) from None
    except ValidationError as wrong:
        message = f"The chunk's header is not valid: {wrong.errors()[0]['msg']}."
        raise damaged(message, _HEAD.size) from None


def _read_directory(directory: Buffer, count: int, layers: int, offset: int, total: int) -> tuple[Entry, ...]:
    """Read ``count`` entries; the first section begins at ``offset``, and the chunk ends at ``total``."""
    lines = [_ENTRY.unpack_from(directory, at * _ENTRY.size) for at in range(count)]
    starts = list(accumulate((line[5] for line in lines), initial=offset))
    if starts[-1] + _FOOT.size != total:
        raise damaged("The chunk's sections do not add up to its length; fetch it again.")
    entries: list[Entry] = []
    for line, start in zip(lines, starts, strict=False):
        kind, _, first, covered, _, length, payload_crc, symbols_crc, error, worst = line
        if kind not in set(Kind) or covered < 1 or first + covered > layers:
            raise damaged("The chunk's directory names layers or kinds that do not exist.", start)
        if not (math.isfinite(error) and math.isfinite(worst)):
            raise damaged("The chunk's directory gives errors that are not finite.", start)
        entries.append(
            Entry(Kind(kind), first, covered, start, length, payload_crc, symbols_crc, error, worst)
        )
    return tuple(entries)


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
        raise damaged("The chunk's length does not match its header; fetch it again.", len(view))
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
