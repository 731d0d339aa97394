"""Decode a chunk while it arrives, layer by layer. Everything is checked before memory is allocated."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial

import torch

from palimpsest.errors import FailedPrecondition, PalimpsestError, Reason
from palimpsest.kv import classic, generic, transform
from palimpsest.kv.coding import lossless
from palimpsest.kv.coding.rans import least_bytes
from palimpsest.kv.container import (
    DECODED_LIMIT,
    EXPANSION_LIMIT,
    FOOTER_SIZE,
    check_footer,
    header_size,
    read_header,
)
from palimpsest.kv.header import ChunkMeta, Entry, Header, Identity, Kind, Section, check_identity, damaged
from palimpsest.kv.layout import DTYPES, Geometry, KeyValues
from palimpsest.kv.profile import CalibrationProfile
from palimpsest.kv.sinks import decode_sinks, sink_bytes


class ChunkReader:
    """Decode a chunk while it arrives: the first layers are usable before the last have been sent.

    Parameters are those of ``decode``. Feed bytes as they come; what comes back is the layers ready so far. A reader
    that has raised an error raises it again on every later call.
    """

    def __init__(
        self,
        *,
        profile: CalibrationProfile | None = None,
        identity: Identity | None = None,
        decoded_limit: int = DECODED_LIMIT,
        expansion_limit: int = EXPANSION_LIMIT,
        threads: int = 1,
    ) -> None:
        self._profile, self._identity = profile, identity
        self._limit, self._expansion, self._threads = decoded_limit, expansion_limit, threads
        self._failed: PalimpsestError | None = None
        self._pending = bytearray()
        self._at = 0  # offset in the chunk of the first pending byte
        self._next = 0
        self._ready = 0
        self.header: Header | None = None
        self.kv: KeyValues | None = None

    def feed(self, data: bytes | memoryview) -> Iterator[int]:
        """Take the next bytes; yield, each time it grows, the number of leading layers that are complete.

        Layers ``0 .. n - 1`` of ``self.kv`` are then final. Raises what ``decode`` raises.
        """
        if self._failed is not None:
            raise self._failed
        try:
            yield from self._feed(data)
        except PalimpsestError as wrong:
            self._failed = wrong
            raise

    def _feed(self, data: bytes | memoryview) -> Iterator[int]:
        self._pending += data
        if self.header is None and not self._begin():
            return
        assert self.header is not None
        while self._next < len(self.header.entries):
            batch = self._complete()
            if not batch:
                return
            run_jobs([partial(self._decode, section) for section in batch], self._threads)
            last = self._next == len(self.header.entries)
            ready = self.header.meta.layers if last else self.header.entries[self._next].first_layer
            if ready > self._ready:
                self._ready = ready
                yield ready
        if len(self._pending) > FOOTER_SIZE:
            raise damaged("The chunk is longer than its header states; fetch it again.", self.header.total)

    def finish(self) -> KeyValues:
        """Check that the chunk is complete and return it.

        Raises
        ------
        DataLoss
            Bytes are missing, or there are too many.
        """
        if self._failed is not None:
            raise self._failed
        if self.header is None or self.kv is None or self._next < len(self.header.entries):
            raise damaged("The chunk is cut short; fetch the rest of it.", self._at + len(self._pending))
        if len(self._pending) != FOOTER_SIZE:
            raise damaged("The chunk's length does not match its header; fetch it again.", self._at)
        check_footer(self.header, self._pending)
        return self.kv

    def _begin(self) -> bool:
        """Parse the header once it is here, check what it belongs to, and only then make room."""
        if len(self._pending) < 32 or len(self._pending) < header_size(self._pending):
            return False
        header = read_header(self._pending, decoded_limit=self._limit, expansion_limit=self._expansion)
        meta = header.meta
        if self._identity is not None:
            check_identity(meta.identity, self._identity)
        geometry = Geometry(meta.layers, meta.kv_heads, meta.key_dim, meta.value_dim)
        if meta.codec in ("transform", "classic"):
            if self._profile is None:
                raise FailedPrecondition(
                    Reason.KV_PROFILE_MISSING,
                    "The chunk needs the calibration profile it was coded with; fetch it by its id.",
                    metadata={"profile": meta.profile},
                )
            self._profile.require(geometry, meta.profile or "none")
            turn = self._profile.rotary
            if (meta.rotary, meta.theta) != (turn.kind, turn.theta):
                raise FailedPrecondition(
                    Reason.KV_PROFILE_MISMATCH,
                    "The chunk's rotary settings do not match its profile; encode the context again.",
                )
        _check_directory(header, self._profile)
        shape = (meta.layers, meta.kv_heads, meta.tokens)
        dtype = DTYPES[meta.dtype]
        self.kv = KeyValues(
            torch.empty(*shape, meta.key_dim, dtype=dtype),
            torch.empty(*shape, meta.value_dim, dtype=dtype),
            meta.start,
        )
        del self._pending[: header.size]
        self.header, self._at = header, header.size
        return True

    def _complete(self) -> list[Section]:
        """Take the sections that have arrived whole."""
        assert self.header is not None
        sections, used = [], 0
        while self._next < len(self.header.entries):
            entry = self.header.entries[self._next]
            if used + entry.length > len(self._pending):
                break
            sections.append(self.header.section(self._next, bytes(self._pending[used : used + entry.length])))
            used += entry.length
            self._next += 1
        del self._pending[:used]
        self._at += used
        return sections

    def _decode(self, section: Section) -> None:
        assert self.header is not None
        assert self.kv is not None
        meta = self.header.meta
        if section.kind is Kind.SINKS:
            decode_sinks(section, meta, self.kv)
        elif meta.codec == "lossless":
            lossless.decode_group(section, meta, self.kv)
        elif meta.codec == "generic":
            generic.decode_group(section, meta, self.kv)
        else:
            assert self._profile is not None
            decoder = transform.decode_group if meta.codec == "transform" else classic.decode_group
            decoder(section, meta, self._profile, self.kv)


def run_jobs(jobs: list, threads: int) -> list:
    """Run jobs, several at once if asked; each with one torch thread, so that they do not wait for each other."""
    if threads == 1 or len(jobs) == 1:
        return [job() for job in jobs]
    return list(_pool(threads).map(lambda job: job(), jobs))


@lru_cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads for all chunks of this process: starting some for every few sections takes longer than a section."""
    return ThreadPoolExecutor(threads, "palimpsest-kv", initializer=torch.set_num_threads, initargs=(1,))


def _check_directory(header: Header, profile: CalibrationProfile | None) -> None:
    """Refuse a directory that leaves out a layer, names one twice, is out of order, or claims what cannot be.

    Memory is handed out unset, so every layer has to come; and only if the sections are long enough for it.
    """
    meta = header.meta
    wanted = {
        Kind.SINKS: meta.sinks > 0,
        Kind.KEYS: meta.tokens > meta.sinks,
        Kind.VALUES: meta.tokens > meta.sinks,
    }
    for kind, present in wanted.items():
        at = 0
        for entry in header.entries:
            if entry.kind is kind:
                if entry.first_layer != at or not present:
                    raise damaged("The chunk's sections do not cover its layers in order; fetch it again.")
                at += entry.layers
        if present and at != meta.layers:
            raise damaged("The chunk's sections do not cover its layers; fetch it again.")
    firsts = [entry.first_layer for entry in header.entries]
    if firsts != sorted(firsts):
        raise damaged("The chunk's sections are not in layer order; fetch it again.")
    for entry in header.entries:
        if entry.kind is Kind.SINKS:
            possible = entry.length == sink_bytes(meta, entry.layers)
        else:
            symbols = (meta.tokens - meta.sinks) * _columns(entry, meta, profile)
            least = least_bytes(symbols)
            if meta.codec == "lossless":  # where a small section may hold raw elements
                least = min(least, lossless.HEAD_SIZE + symbols * DTYPES[meta.dtype].itemsize)
            possible = entry.length >= least
        if not possible:
            raise damaged(
                "A section is too short or too long for what its directory entry describes.", entry.offset
            )


def _columns(entry: Entry, meta: ChunkMeta, profile: CalibrationProfile | None) -> int:
    """Return how many symbols a token has in a section."""
    component = 0 if entry.kind is Kind.KEYS else 1
    if meta.codec != "transform" or profile is None:
        return entry.layers * meta.kv_heads * (meta.key_dim, meta.value_dim)[component]
    return int(
        profile.level(meta.level).kept[
            component, transform.group_of(profile, entry.first_layer, entry.layers)
        ]
    )
