"""Good chunks to be damaged, and the means: forged headers, sections in other places, a limit on memory."""

import os
import resource
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from hypothesis import settings

from palimpsest.errors import PalimpsestError
from palimpsest.kv import CalibrationProfile, KeyValues, decode, encode, read_header
from palimpsest.kv.container import unpack

from .conftest import ROTARY, make_cache

CODECS = ["transform", "classic", "generic", "lossless"]
FACTOR = float(os.environ.get("PALIMPSEST_FUZZ_FACTOR", "1"))
"""Times as many cases; 1 is what CI has time for."""
TOKENS = 9
HEAD, ENTRY, FOOT = struct.Struct("<8sBBHIIQI"), struct.Struct("<BBHHHIIIff"), struct.Struct("<QI4s")


def cases(number: int) -> settings:
    return settings(max_examples=int(number * FACTOR), deadline=None, derandomize=True, database=None)


def same(kv: KeyValues, other: KeyValues) -> bool:
    def bits(part: torch.Tensor) -> torch.Tensor:
        return part.view(torch.int16)

    return (
        kv.start == other.start
        and kv.keys.shape == other.keys.shape
        and kv.keys.dtype == other.keys.dtype
        and bool(bits(kv.keys).equal(bits(other.keys)) and bits(kv.values).equal(bits(other.values)))
    )


class Chunk:
    """A good chunk of each codec, what it decodes to, and its parts."""

    def __init__(self, data: bytes, profile: CalibrationProfile) -> None:
        self.data, self.profile = data, profile
        self.kv = decode(data, profile=profile)
        self.meta, self.sections = unpack(data)
        self.header = read_header(data)

    def read(self, data: bytes, **limits: int) -> KeyValues:
        return decode(data, profile=self.profile, **limits)

    def refused_or_same(self, data: bytes, *classes: type[PalimpsestError]) -> None:
        try:
            found = self.read(data)
        except classes:
            return
        assert same(found, self.kv)


def good_chunks(profile: CalibrationProfile) -> dict[str, Chunk]:
    kv = make_cache(4, TOKENS)
    coded = {name: encode(kv, codec=name, profile=profile, rotary=ROTARY)["balanced"] for name in CODECS[:3]}
    coded |= encode(kv, levels=["lossless"])
    return {name: Chunk(data, profile) for name, data in coded.items()}


def forge(meta: bytes, entries: list[tuple], body: bytes, **claims: int) -> bytes:
    """Write a chunk whose checksums hold, whatever it says."""
    directory = b"".join(ENTRY.pack(*entry) for entry in entries)
    size = HEAD.size + len(meta) + len(directory)
    total = claims.get("total", size + len(body) + FOOT.size)
    head = HEAD.pack(
        b"\x89PLKV\r\n\x1a",
        claims.get("major", 1),
        claims.get("minor", 0),
        0,
        claims.get("meta_length", len(meta)),
        claims.get("sections", len(entries)),
        total,
        0,
    )[:-4]
    whole = head + bytes(4) + meta + directory + body
    held = (
        HEAD.size + claims.get("meta_length", len(meta)) + claims.get("sections", len(entries)) * ENTRY.size
    )
    crc = zlib.crc32(whole[HEAD.size : held], zlib.crc32(head))
    return head + struct.pack("<I", crc) + whole[HEAD.size :] + FOOT.pack(total, crc, b"kept")


def directory(chunk: Chunk) -> list[tuple]:
    return [
        (e.kind, 0, e.first_layer, e.layers, 0, e.length, e.payload_crc, e.symbols_crc, e.error, e.worst)
        for e in chunk.header.entries
    ]


@contextmanager
def no_more_than(extra: int) -> Iterator[None]:
    """Let this process map only so many bytes more than it has: any larger allocation fails, touched or not."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + extra, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
