"""How chunks of unknown position are coded, and how many bytes that takes at most."""

import math
from pathlib import Path
from typing import Any

import torch

from palimpsest.errors import InvalidArgument, Reason, Unimplemented
from palimpsest.kv import (
    LOSSLESS,
    CalibrationProfile,
    Identity,
    KeyValues,
    Rotary,
    decode,
    encode,
    read_header,
)
from palimpsest.kv.header import Kind
from palimpsest.kv.promises.estimates import shared_excess

POSITIONS = 1 << 15
"""Positions at which a chunk's start is searched for; further on, cosines repeat."""
SINKS = 4
"""Leading tokens to ignore when a chunk's position is searched for."""
MOST_SHARED = 2.0
"""Times the ordinary share of errors that all tokens of a chunk may have in common."""
ROOM = 2048
"""Bytes that a chunk's header takes at most, its directory apart."""
ROOM_OF_A_LAYER = 3 * (28 + 12)
"""Bytes that a layer's sections take at most beyond their elements: directory entries and headers."""


class Coding:
    """How chunks are coded: what serialiser and deserialiser share.

    Parameters
    ----------
    profile
        Calibration profile, its bytes or the path of its file; None: the generic codec, which needs none.
    level
        Such as ``"balanced"`` or ``"lossless"``.
    kv_heads
        Key and value heads; taken from the profile if there is one.
    rope_theta
        Base of the model's rotary embedding, if it is a plain one; 0: keys are coded as they are.
    threads
        Groups of layers coded at once.

    Raises
    ------
    InvalidArgument
        The profile is not valid, or the rotary embedding needs ``kv_heads``.
    """

    def __init__(
        self,
        *,
        profile: CalibrationProfile | bytes | str | Path | None = None,
        level: str = "balanced",
        kv_heads: int = 0,
        rope_theta: float = 0.0,
        threads: int = 1,
    ) -> None:
        if isinstance(profile, str | Path):
            try:
                profile = Path(profile).read_bytes()
            except OSError as wrong:
                raise InvalidArgument(
                    Reason.KV_PROFILE_INVALID, f"The calibration profile cannot be read: {wrong}."
                ) from None
        if isinstance(profile, bytes):
            profile = CalibrationProfile.from_bytes(profile)
        if rope_theta and not kv_heads and profile is None:
            raise InvalidArgument(Reason.KV_ROTARY, "To turn keys back, give kv_heads beside rope_theta.")
        self.profile = profile
        self.level, self.threads = level, threads
        self.heads = profile.geometry.kv_heads if profile else max(1, kv_heads)
        self.rotary = Rotary("half", rope_theta) if rope_theta else Rotary()

    def encode(self, group: torch.Tensor, identity: Identity) -> bytes:
        """Code one object ``[2, layers, tokens, channels]``; never longer than ``most_bytes`` of it.

        What the level cannot carry, such as NaN in slots that were never filled, or would make longer, is coded
        without loss.

        Raises
        ------
        Unimplemented
            The object does not hold keys and values of whole positions.
        """
        kv = self.split(group)
        if self.level != LOSSLESS:
            try:
                data = self._encode(kv, self.level, identity)
            except InvalidArgument as wrong:
                if wrong.reason != Reason.KV_NOT_FINITE:
                    raise
            else:
                if len(data) <= most_bytes(group.shape, group.dtype):
                    return data
        return self._encode(kv, LOSSLESS, identity)

    def _encode(self, kv: KeyValues, level: str, identity: Identity) -> bytes:
        if self.profile is not None and level != LOSSLESS:
            placed = KeyValues(kv.keys, kv.values, likely_start(kv, self.profile))
            data = encode(
                placed, levels=[level], profile=self.profile, identity=identity, threads=self.threads
            )[level]
            # Even cells leave an error of 0.29 steps. Much more means that what the profile leaves out is there.
            entries = read_header(data).entries
            small = all(
                e.error < self.profile.level(level).step / 2 for e in entries if e.kind is not Kind.SINKS
            )
            # What many tokens lose alike, attention does not average out.
            if small and shared_excess(placed, decode(data, profile=self.profile)) < MOST_SHARED:
                return data
        return encode(
            kv,
            levels=[level],
            codec="generic",
            rotary=self.profile.rotary if self.profile else self.rotary,
            identity=identity,
            threads=self.threads,
        )[level]

    def split(self, group: torch.Tensor) -> KeyValues:
        """Return the keys and values in an object, heads apart."""
        if group.ndim != 4 or group.shape[0] != 2 or group.shape[3] % self.heads:
            raise Unimplemented(
                Reason.KV_LAYER_UNSUPPORTED,
                f"Objects are [2, layers, tokens, channels] with channels for {self.heads} heads; "
                f"this one is {list(group.shape)}.",
            )
        apart = group.unflatten(3, (self.heads, -1)).transpose(2, 3)
        return KeyValues(apart[0], apart[1])

    def fill(self, group: torch.Tensor, kv: KeyValues) -> None:
        """Write keys and values into an object."""
        into = self.split(group)
        into.keys.copy_(kv.keys)
        into.values.copy_(kv.values)


def likely_start(kv: KeyValues, profile: CalibrationProfile) -> int:
    """Return the position from which un-rotating a chunk's keys brings their mean nearest to the profile's.

    Un-rotating from a later position turns each pair of elements of the mean further back, so that the agreement of
    the two means is a sum of one cosine and one sine for each pair.
    """
    if profile.rotary.kind == "none":
        return 0
    body = kv[SINKS:] if kv.tokens > 2 * SINKS else kv  # the first tokens of a context are unlike all others
    found = profile.rotary.turn(body.keys.cpu(), body.start, back=True).mean(2)
    known = profile.means[0].float().view_as(found)
    (a, b), (c, d) = known.chunk(2, -1), found.chunk(2, -1)
    even, odd = (a * c + b * d).sum((0, 1)), (a * d - b * c).sum((0, 1))
    cosine, sine = profile.rotary.angles(0, POSITIONS, kv.geometry.key_dim)
    return max(0, int((cosine @ even + sine @ odd).argmax()))


def most_bytes(shape: Any, dtype: torch.dtype) -> int:
    """Upper bound on an encoded object's size in bytes: its raw size, plus headers."""
    layers = int(shape[1]) if len(shape) == 4 else 1
    return math.prod(int(size) for size in shape) * dtype.itemsize + ROOM + layers * ROOM_OF_A_LAYER
