"""Keep a chunk at several levels, each by the first coder whose loss on this very chunk is what the level stands for.

A level is a promise about predictions, and its own coder keeps it on text like that it was made for. On other text (a
thousand line breaks, another alphabet) the same step may lose a hundred times as much. So every coded form is decoded
again and judged, and a level that loses too much is filled by a finer coder under the level's name: finer levels of the
same codec, then ``generic``, which takes its means and steps from the chunk itself, then no loss at all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.kv.calibration import LEVELS
from palimpsest.kv.codec import LARGEST, LOSSLESS, decode, encode
from palimpsest.kv.header import Identity
from palimpsest.kv.layout import KeyValues
from palimpsest.kv.profile import CalibrationProfile
from palimpsest.kv.rotary import Rotary

CAPS: Mapping[str, float] = {level: 16 * nats for level, nats in LEVELS.items()}
"""Most that may be told of a level, in nats a token. Far above what it is meant for: what is told is a bound, and
chunks of ordinary text differ several times. What loses more is not the level's kind of text."""


class Coded(NamedTuple):
    """One coded form of a chunk.

    Attributes
    ----------
    codec, level
        What it was coded with.
    data
        Its bytes.
    kv
        What they decode to.
    """

    codec: str
    level: str
    data: bytes
    kv: KeyValues


Losses = Callable[[KeyValues, Sequence[Coded]], Sequence[float]]
"""Bounds what each of some coded forms of an exact chunk loses, in nats a token."""


@dataclass(frozen=True)
class Kept:
    """What is kept of a chunk for one level.

    Attributes
    ----------
    stored_level
        Whose coder it is: the level itself, a finer one, such a one of ``generic`` (``"generic balanced"``), or
        ``"lossless"``.
    data
        The coded chunk.
    loss
        Upper bound of its loss, in nats a token.
    """

    stored_level: str
    data: bytes
    loss: float


def keep(
    kv: KeyValues,
    losses: Losses,
    *,
    levels: Sequence[str],
    codec: str,
    profile: CalibrationProfile | None = None,
    rotary: Rotary | None = None,
    identity: Identity | None = None,
    threads: int = 1,
) -> dict[str, Kept]:
    """Code a chunk for several levels.

    Parameters
    ----------
    kv
        The chunk.
    losses
        Judges coded forms: once those of the levels themselves, and others where one of these loses too much.
    levels, codec, profile, rotary, identity, threads
        As of ``palimpsest.kv.encode``.

    Returns
    -------
    dict
        What is kept for each level.

    Raises
    ------
    InvalidArgument, FailedPrecondition
        As ``palimpsest.kv.encode``.
    """
    chunk = _Chunk(kv, losses, codec, profile, rotary, identity, threads)
    lossy = [level for level in levels if level != LOSSLESS]
    if lossy:
        chunk.judge(codec, lossy)
    return {level: chunk.keep(level) for level in dict.fromkeys(levels)}


class _Chunk:
    """A chunk and the forms of it that were judged so far."""

    def __init__(
        self,
        kv: KeyValues,
        losses: Losses,
        codec: str,
        profile: CalibrationProfile | None,
        rotary: Rotary | None,
        identity: Identity | None,
        threads: int,
    ) -> None:
        self._kv = KeyValues(kv.keys.detach().cpu(), kv.values.detach().cpu(), kv.start)
        self._losses, self._codec, self._profile, self._threads = losses, codec, profile, threads
        self._rotary, self._identity = rotary, identity
        self._judged: dict[tuple[str, str], Kept | None] = {}
        self._exact: Kept | None = None

    def keep(self, level: str) -> Kept:
        """Return the first form that loses no more than the level may."""
        for codec, name in self._ladder(level):
            if (codec, name) not in self._judged:
                self.judge(codec, [name])
            found = self._judged[codec, name]
            if found is not None and found.loss <= CAPS[level]:  # also false for NaN
                return found
        if self._exact is None:
            self._exact = Kept(LOSSLESS, self._encode(self._codec, [LOSSLESS])[LOSSLESS], 0.0)
        return self._exact

    def judge(self, codec: str, levels: Sequence[str]) -> None:
        """Code the chunk at some levels, and have the results judged."""
        try:
            coded = self._encode(codec, levels)
        except InvalidArgument as wrong:
            # Infinities are the caller's to mend; elements too far apart for a level's cells are not.
            if wrong.reason != Reason.KV_NOT_FINITE or not _bounded(self._kv):
                raise
            if len(levels) > 1:
                for level in levels:
                    self.judge(codec, [level])
            else:
                self._judged[codec, levels[0]] = None
            return
        forms = [Coded(codec, level, data, self._decode(data)) for level, data in coded.items()]
        for form, loss in zip(forms, self._losses(self._kv, forms), strict=True):
            name = form.level if codec == self._codec else f"{codec} {form.level}"
            self._judged[codec, form.level] = Kept(name, form.data, loss)

    def _ladder(self, level: str) -> list[tuple[str, str]]:
        if level == LOSSLESS:
            return []
        names = list(LEVELS)
        finer = names[names.index(level) :: -1]
        return [(codec, name) for codec in dict.fromkeys((self._codec, "generic")) for name in finer]

    def _encode(self, codec: str, levels: Sequence[str]) -> dict[str, bytes]:
        return encode(
            self._kv,
            levels=levels,
            codec=codec,
            profile=self._profile,
            rotary=self._rotary,
            identity=self._identity,
            threads=self._threads,
        )

    def _decode(self, data: bytes) -> KeyValues:
        return decode(data, profile=self._profile, threads=self._threads)


def _bounded(kv: KeyValues) -> bool:
    """Whether the elements are finite and no larger than what lossy codecs take at all."""
    return all(float(part.abs().amax()) <= LARGEST for part in (kv.keys, kv.values))
