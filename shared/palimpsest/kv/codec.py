"""Chunks of a context's cache to bytes at one or several levels, and back, whole or layer by layer.

::

    coded = encode(from_cache(cache), levels=["balanced"], profile=profile)
    cache = to_cache(decode(coded["balanced"], profile=profile), model.config)
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from pydantic import ValidationError

from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.kv import classic, generic, transform
from palimpsest.kv.coding import lossless
from palimpsest.kv.container import DECODED_LIMIT, EXPANSION_LIMIT, pack
from palimpsest.kv.header import ChunkMeta, Identity, Section
from palimpsest.kv.layout import Geometry, KeyValues
from palimpsest.kv.profile import CalibrationProfile
from palimpsest.kv.reader import ChunkReader, run_jobs
from palimpsest.kv.rotary import Rotary
from palimpsest.kv.sinks import encode_sinks

LOSSLESS = "lossless"
CODECS = ("transform", "classic", "generic")
GENERIC_SINKS = 4
"""Leading tokens the generic codec keeps apart."""
LARGEST = 1e15
"""Elements above this are not keys or values of a model, and their squares overflow float32: lossless only."""


_Encoder = Callable[[KeyValues], dict[str, Section]]


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
        The chunk; its ``start`` is its position in the context.
    levels
        ``"lossless"``, or names of the codec's levels.
    codec
        ``"transform"``, ``"classic"`` (both need a profile) or ``"generic"``.
    profile
        From ``calibrate``.
    rotary
        For ``"generic"``: how the model rotates its keys; None: they are coded as they are.
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
        An unknown level or codec, or elements that are not finite (only lossless carries those).
    FailedPrecondition
        The profile is missing, or belongs to another geometry.
    """
    if codec not in CODECS or not levels:
        raise InvalidArgument(
            Reason.KV_LEVEL_UNKNOWN, f"Give at least one level, and a codec of {', '.join(CODECS)}."
        )
    # A plain copy on the CPU, whatever device the cache is on and whether or not it has gradients.
    kv = KeyValues(kv.keys.detach().cpu(), kv.values.detach().cpu(), kv.start)
    identity = identity or Identity()
    _meta(kv, codec, levels[0], identity)  # refused before the work rather than after it
    lossy = [name for name in dict.fromkeys(levels) if name != LOSSLESS]
    coded: dict[str, bytes] = {}
    if LOSSLESS in levels:
        coded[LOSSLESS] = _encode_lossless(kv, identity, threads)
    if not lossy:
        return coded
    if not all(float(part.abs().amax()) <= LARGEST for part in (kv.keys, kv.values)):  # also false for NaN
        raise InvalidArgument(
            Reason.KV_NOT_FINITE,
            f"The cache has infinities, NaN or elements above {LARGEST:.0e}; only the lossless level carries those.",
        )
    if codec == "generic":
        coder = _generic_coder(kv.geometry, rotary or Rotary(), lossy)
    else:
        coder = _calibrated_coder(kv.geometry, codec, profile, lossy)
    sinks = max(0, min(coder.sinks - kv.start, kv.tokens))
    sections = run_jobs(_jobs(kv, coder, sinks, lossy), threads)  # in the order of the layers
    for name in lossy:
        meta = _meta(kv, codec, name, identity, sinks=sinks, profile=coder.profile_id, rotary=coder.rotary)
        coded[name] = pack(meta, [section[name] for section in sections])
    return coded


class _Coder(NamedTuple):
    """How a lossy codec codes a chunk.

    Attributes
    ----------
    rotary
        How the keys were rotated.
    sinks
        Leading tokens of the context that are coded apart.
    profile_id
        Digest of the calibration profile; empty: none.
    groups
        First layer and number of layers of each group.
    encoders
        For each group, keys and values: chunk without sinks to the section of each level.
    """

    rotary: Rotary
    sinks: int
    profile_id: str
    groups: list[tuple[int, int]]
    encoders: list[tuple[_Encoder, _Encoder]]


def _generic_coder(geometry: Geometry, rotary: Rotary, levels: Sequence[str]) -> _Coder:
    _known(levels, list(generic.STEPS))
    groups = _groups(geometry, generic.GROUP)

    def encoder(component: int, first: int, layers: int) -> _Encoder:
        return partial(
            generic.encode_group,
            rotary=rotary,
            component=component,
            first=first,
            layers=layers,
            levels=levels,
        )

    encoders = [(encoder(0, *group), encoder(1, *group)) for group in groups]
    return _Coder(rotary, GENERIC_SINKS, "", groups, encoders)


def _calibrated_coder(
    geometry: Geometry, codec: str, profile: CalibrationProfile | None, levels: Sequence[str]
) -> _Coder:
    if profile is None:
        raise FailedPrecondition(
            Reason.KV_PROFILE_MISSING,
            f"The {codec} codec needs a calibration profile; calibrate, or use generic.",
        )
    profile.require(geometry)
    plain = codec == "transform"
    _known(levels, list(profile.levels if plain else profile.require_classic([]).levels))
    encode_group = transform.encode_group if plain else classic.encode_group

    def encoder(component: int, group: int) -> _Encoder:
        return partial(encode_group, profile=profile, component=component, group=group, levels=levels)

    encoders = [(encoder(0, group), encoder(1, group)) for group in range(len(profile.groups))]
    return _Coder(profile.rotary, profile.sinks, profile.id, profile.groups, encoders)


def _jobs(
    kv: KeyValues, coder: _Coder, sinks: int, levels: Sequence[str]
) -> list[Callable[[], dict[str, Section]]]:
    """The sections of a chunk, to be coded: of each group of layers the sinks, the keys, the values."""
    jobs: list[Callable[[], dict[str, Section]]] = []
    for (first, layers), encoders in zip(coder.groups, coder.encoders, strict=True):
        if sinks:
            jobs.append(partial(_sinks, kv[:sinks], first, layers, levels))
        if sinks < kv.tokens:
            jobs += [partial(encoder, kv[sinks:]) for encoder in encoders]
    return jobs


def decode(
    data: bytes | memoryview,
    *,
    profile: CalibrationProfile | None = None,
    identity: Identity | None = None,
    decoded_limit: int = DECODED_LIMIT,
    expansion_limit: int = EXPANSION_LIMIT,
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
    expansion_limit
        Times its own length that it may decode to.
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
        The bytes are not those that were written.
    FailedPrecondition
        Another profile or identity.
    ResourceExhausted
        More than ``decoded_limit`` or ``expansion_limit``.
    """
    reader = ChunkReader(
        profile=profile,
        identity=identity,
        decoded_limit=decoded_limit,
        expansion_limit=expansion_limit,
        threads=threads,
    )
    for _ in reader.feed(data):
        pass
    return reader.finish()


def _sinks(kv: KeyValues, first: int, layers: int, levels: Sequence[str]) -> dict[str, Section]:
    return dict.fromkeys(levels, encode_sinks(kv, first, layers))


def _encode_lossless(kv: KeyValues, identity: Identity, threads: int) -> bytes:
    jobs = [
        partial(lossless.encode_group, kv, component, first, layers)
        for first, layers in _groups(kv.geometry, lossless.GROUP)
        for component in (0, 1)
    ]
    return pack(_meta(kv, "lossless", LOSSLESS, identity), run_jobs(jobs, threads))


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
    try:
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
    except ValidationError as wrong:
        first = wrong.errors()[0]
        raise InvalidArgument(
            Reason.KV_RANGE, f"A chunk cannot have this {'.'.join(map(str, first['loc']))}: {first['msg']}."
        ) from None


def _groups(geometry: Geometry, size: int) -> list[tuple[int, int]]:
    return [(first, min(size, geometry.layers - first)) for first in range(0, geometry.layers, size)]


def _known(levels: Sequence[str], known: Sequence[str]) -> None:
    for name in levels:
        if name not in known:
            raise InvalidArgument(
                Reason.KV_LEVEL_UNKNOWN, f"No level {name!r}; there are lossless, {', '.join(known)}."
            )
