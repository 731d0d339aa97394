"""Chunks of a context's cache to bytes at one or several levels, and back, whole or layer by layer.

::

    coded = encode(from_cache(cache), levels=["balanced"], profile=profile)
    cache = to_cache(decode(coded["balanced"], profile=profile), model.config)
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch

from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.kv import classic, generic, lossless, transform
from palimpsest.kv.container import (
    DECODED_LIMIT,
    FOOTER_SIZE,
    ChunkMeta,
    Header,
    Identity,
    Kind,
    Section,
    check_footer,
    check_identity,
    damaged,
    header_size,
    pack,
    read_header,
)
from palimpsest.kv.layout import DTYPES, Geometry, KeyValues
from palimpsest.kv.profile import CalibrationProfile
from palimpsest.kv.rotary import Rotary
from palimpsest.kv.sinks import decode_sinks, encode_sinks

LOSSLESS = "lossless"
CODECS = ("transform", "classic", "generic")
GENERIC_SINKS = 4
"""Leading tokens the generic codec keeps apart."""


def encode(
    kv: KeyValues,
    *,
    levels: Sequence[str] = ("balanced",),
    codec: str = "transform",
    profile: CalibrationProfile | None = None,
    rotary: Rotary | None = None,
    identity: Identity | None = None,
    threads: int = 1,
) -> dict[str, bytes]:
    """Encode a chunk at one or several levels; the transform is done once for all of them.

    Parameters
    ----------
    kv
        The chunk; its ``start`` says where in the context it lies.
    levels
        ``"lossless"``, or names of the codec's levels.
    codec
        ``"transform"``, ``"classic"`` (both need a profile) or ``"generic"`` (needs none).
    profile
        From ``calibrate``.
    rotary
        For ``"generic"``: how the model turns its keys; None: they are coded as they are.
    identity
        What the chunk belongs to; a reader can insist on it.
    threads
        Groups of layers coded at once.

    Returns
    -------
    dict
        The bytes of each level.

    Raises
    ------
    InvalidArgument
        An unknown level or codec, or numbers that are not finite (only lossless carries those).
    FailedPrecondition
        The profile is missing, or belongs to another geometry.
    """
    if codec not in CODECS or not levels:
        raise InvalidArgument(
            Reason.KV_LEVEL_UNKNOWN, f"Give at least one level, and a codec of {', '.join(CODECS)}."
        )
    lossy = [name for name in dict.fromkeys(levels) if name != LOSSLESS]
    result: dict[str, bytes] = {}
    if LOSSLESS in levels:
        result[LOSSLESS] = _encode_lossless(kv, identity or Identity(), threads)
    if not lossy:
        return result
    if not (kv.keys.isfinite().all() and kv.values.isfinite().all()):
        raise InvalidArgument(
            Reason.KV_NOT_FINITE, "The cache has infinities or NaN; only the lossless level carries those."
        )
    if codec == "generic":
        rotary, kept, profile_id = rotary or Rotary(), GENERIC_SINKS, ""
        groups = _groups(kv.geometry, generic.GROUP)
        _known(lossy, list(generic.STEPS))
        coders = [
            partial(
                generic.encode_group,
                rotary=rotary,
                component=component,
                first=first,
                layers=layers,
                levels=lossy,
            )
            for first, layers in groups
            for component in (0, 1)
        ]
    else:
        if profile is None:
            raise FailedPrecondition(
                Reason.KV_PROFILE_MISSING,
                f"The {codec} codec needs a calibration profile; calibrate, or use generic.",
            )
        profile.require(kv.geometry)
        rotary, kept, profile_id, groups = profile.rotary, profile.sinks, profile.id, profile.groups
        _known(lossy, list(profile.levels if codec == "transform" else profile.require_classic([]).levels))
        coders = [
            partial(
                transform.encode_group if codec == "transform" else classic.encode_group,
                profile=profile,
                component=component,
                group=group,
                levels=lossy,
            )
            for group in range(len(groups))
            for component in (0, 1)
        ]
    sinks = max(0, min(kept - kv.start, kv.tokens))
    jobs: list[Callable[[], dict[str, Section]]] = []
    for at, (first, layers) in enumerate(groups):
        if sinks:
            jobs.append(partial(_sinks, kv[:sinks], first, layers, lossy))
        if sinks < kv.tokens:
            jobs += [partial(coder, kv[sinks:]) for coder in coders[2 * at : 2 * at + 2]]
    sections = _run(jobs, threads)
    for name in lossy:
        meta = _meta(kv, codec, name, identity or Identity(), sinks=sinks, profile=profile_id, rotary=rotary)
        result[name] = pack(meta, [section[name] for section in sections])
    return result


def decode(
    data: bytes | memoryview,
    *,
    profile: CalibrationProfile | None = None,
    identity: Identity | None = None,
    decoded_limit: int = DECODED_LIMIT,
    threads: int = 1,
) -> KeyValues:
    """Decode a whole chunk.

    Parameters
    ----------
    data
        What ``encode`` returned for a level.
    profile
        The one it was encoded with; generic and lossless chunks need none.
    identity
        What the chunk must belong to; None: anything.
    decoded_limit
        Bytes it may decode to.
    threads
        Sections decoded at once.

    Returns
    -------
    KeyValues
        In the type that was encoded.

    Raises
    ------
    InvalidArgument, Unimplemented
        Not a chunk, or a newer one.
    DataLoss
        A single bit is not as it was written.
    FailedPrecondition
        Another profile or identity.
    ResourceExhausted
        More than ``decoded_limit``.
    """
    reader = ChunkReader(profile=profile, identity=identity, decoded_limit=decoded_limit, threads=threads)
    for _ in reader.feed(data):
        pass
    return reader.finish()


class ChunkReader:
    """Decode a chunk while it arrives: the first layers are usable before the last have been sent.

    Parameters are those of ``decode``. Feed bytes as they come; what comes back is the layers ready so far.
    """

    def __init__(
        self,
        *,
        profile: CalibrationProfile | None = None,
        identity: Identity | None = None,
        decoded_limit: int = DECODED_LIMIT,
        threads: int = 1,
    ) -> None:
        self._profile, self._identity = profile, identity
        self._limit, self._threads = decoded_limit, threads
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
        self._pending += data
        if self.header is None and not self._begin():
            return
        assert self.header is not None
        while self._next < len(self.header.entries):
            batch = self._complete()
            if not batch:
                return
            _run([partial(self._decode, section) for section in batch], self._threads)
            last = self._next == len(self.header.entries)
            ready = self.header.meta.layers if last else self.header.entries[self._next].first_layer
            if ready > self._ready:
                self._ready = ready
                yield ready

    def finish(self) -> KeyValues:
        """Check that the chunk is complete and return it.

        Raises
        ------
        DataLoss
            Bytes are missing, or there are too many.
        """
        if self.header is None or self.kv is None or self._next < len(self.header.entries):
            raise damaged("The chunk is cut short; fetch the rest of it.", self._at + len(self._pending))
        if len(self._pending) != FOOTER_SIZE:
            raise damaged("The chunk has not the length its header gives; fetch it again.", self._at)
        check_footer(self.header, self._pending)
        return self.kv

    def _begin(self) -> bool:
        """Parse the header once it is here, check what it belongs to, and only then make room."""
        if len(self._pending) < 32 or len(self._pending) < header_size(self._pending):
            return False
        header = read_header(self._pending, decoded_limit=self._limit)
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
            self._profile.require(geometry, meta.profile)
        _check_directory(header)
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


def _sinks(kv: KeyValues, first: int, layers: int, levels: Sequence[str]) -> dict[str, Section]:
    return dict.fromkeys(levels, encode_sinks(kv, first, layers))


def _encode_lossless(kv: KeyValues, identity: Identity, threads: int) -> bytes:
    jobs = [
        partial(lossless.encode_group, kv, component, first, layers)
        for first, layers in _groups(kv.geometry, lossless.GROUP)
        for component in (0, 1)
    ]
    return pack(_meta(kv, "lossless", LOSSLESS, identity), _run(jobs, threads))


def _meta(
    kv: KeyValues,
    codec: str,
    level: str,
    identity: Identity,
    *,
    sinks: int = 0,
    profile: str = "",
    rotary: Rotary | None = None,
) -> ChunkMeta:
    turn = rotary or Rotary()
    return ChunkMeta.model_validate(
        {
            **vars(kv.geometry),
            "codec": codec,
            "level": level,
            "profile": profile,
            "identity": identity,
            "dtype": kv.dtype_name,
            "tokens": kv.tokens,
            "start": kv.start,
            "sinks": sinks,
            "rotary": turn.kind,
            "theta": turn.theta,
        }
    )


def _check_directory(header: Header) -> None:
    """Refuse a directory that leaves out a layer, names one twice, or is out of order: memory is handed out unset."""
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


def _groups(geometry: Geometry, size: int) -> list[tuple[int, int]]:
    return [(first, min(size, geometry.layers - first)) for first in range(0, geometry.layers, size)]


def _known(levels: Sequence[str], known: Sequence[str]) -> None:
    for name in levels:
        if name not in known:
            raise InvalidArgument(
                Reason.KV_LEVEL_UNKNOWN, f"No level {name!r}; there are lossless, {', '.join(known)}."
            )


def _run(jobs: list, threads: int) -> list:
    """Run jobs, several at once if asked; each with one torch thread, so that they do not wait for each other."""
    if threads == 1 or len(jobs) == 1:
        return [job() for job in jobs]
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return list(pool.map(lambda job: job(), jobs))
