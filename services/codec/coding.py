"""How a context is coded: the caller's choices, with everything left open decided."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from palimpsest.api.codec.v1 import codec_pb2 as pb
from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.models import ModelRecord
from services.codec.contexts import content_of
from services.codec.profiles import ProfileCatalogue

if TYPE_CHECKING:
    from palimpsest.kv import CalibrationProfile, Rotary

DEFAULT_CHUNK = 512
LOSSLESS = "lossless"
PLAIN_LOSSES = {
    "near-lossless": 0.005,
    "high": 0.01,
    "balanced": 0.02,
    "compact": 0.05,
    "smallest": 0.1,
}
"""Rough loss of the codecs without calibrated steps, in nats a token, on the models they were tried on."""


@dataclass(frozen=True)
class ChosenCoding:
    """A coding with every choice made.

    Attributes
    ----------
    codec
        "transform", "classic" or "generic".
    levels
        Finest first.
    chunk_tokens
        Tokens of every chunk but the last.
    profile
        Digest of the calibration profile; empty for "generic".
    means
        Mean loss of each (codec, level) that chunks may be stored with, on ordinary text, in nats a token.
    """

    codec: str
    levels: tuple[str, ...]
    chunk_tokens: int
    profile: str
    means: dict[tuple[str, str], float]

    def content(self, fingerprint: str, prefix_digest: str, dtype: str) -> str:
        """Digest of a context coded like this."""
        return content_of(
            fingerprint,
            prefix_digest,
            codec=self.codec,
            levels=self.levels,
            chunk=self.chunk_tokens,
            profile=self.profile,
            dtype=dtype,
        )


def choose_coding(asked: pb.Coding, record: ModelRecord | None, profiles: ProfileCatalogue) -> ChosenCoding:
    """Fill in a coding.

    Parameters
    ----------
    asked
        The request's.
    record
        The cache's model; None: unknown.
    profiles
        Where the model's profile is looked up.

    Raises
    ------
    FailedPrecondition
        KV_PROFILE_MISSING: the codec needs a profile and the model has none.
    InvalidArgument
        KV_LEVEL_UNKNOWN.
    """
    calibrated = profiles.find(record.fingerprint) if record and asked.codec != "generic" else None
    codec = asked.codec or ("transform" if calibrated else "generic")
    if codec != "generic" and calibrated is None:
        raise FailedPrecondition(
            Reason.KV_PROFILE_MISSING,
            f"The {codec} codec needs a calibration profile, and the model has none: call Calibrate, or use 'generic'.",
        )
    known = dict(PLAIN_LOSSES)
    if codec == "transform" and calibrated is not None:
        known = {level.level: level.loss for level in calibrated.levels}
    losses = {LOSSLESS: 0.0, **known}
    levels = [name for name in losses if name in asked.levels] if asked.levels else list(known)
    unknown = [name for name in asked.levels if name not in losses]
    if unknown:
        raise InvalidArgument.field(
            Reason.KV_LEVEL_UNKNOWN,
            "coding.levels",
            f"There is no level {unknown[0]!r}; there are {', '.join(losses)}.",
        )
    return ChosenCoding(
        codec,
        tuple(levels),
        asked.chunk_tokens or DEFAULT_CHUNK,
        calibrated.artifact if calibrated and codec != "generic" else "",
        {("generic", name): loss for name, loss in PLAIN_LOSSES.items()}
        | {(codec, name): loss for name, loss in known.items()},
    )


def loss_of(encoding: pb.Encoding, known: Mapping[str, float]) -> float:
    """Bound of a stored chunk's loss at a level; of one that was stored without a bound, its level's."""
    return encoding.loss if encoding.HasField("loss") else known.get(encoding.level, 0.0)


def rotary_of(record: ModelRecord) -> "Rotary":
    """How a model rotates its keys."""
    from palimpsest.kv import Rotary

    return Rotary(record.geometry.rotary, record.geometry.rotary_theta)


def profile_of(coding: ChosenCoding, profiles: ProfileCatalogue) -> "CalibrationProfile | None":
    """Load the profile a coding names."""
    return profiles.load(coding.profile) if coding.profile else None


def checked_ids(ids: Sequence[int], record: ModelRecord) -> list[int]:
    """Token ids that the model can have as a context.

    Raises
    ------
    InvalidArgument
        PROMPT_EMPTY, PROMPT_TOO_LONG or TOKEN_ID_OUT_OF_RANGE.
    """
    if not ids:
        raise InvalidArgument(Reason.PROMPT_EMPTY, "The context is empty; send some text or token ids.")
    if 0 < record.context_length < len(ids):
        raise InvalidArgument(
            Reason.PROMPT_TOO_LONG,
            f"The text has {len(ids)} tokens, more than the model's {record.context_length}. Nothing is cut off: "
            "shorten it.",
            metadata={"prompt_tokens": len(ids), "context_length": record.context_length},
        )
    worst = max(ids)
    if worst >= record.vocab_size:
        raise InvalidArgument(
            Reason.TOKEN_ID_OUT_OF_RANGE,
            f"Token id {worst} is outside the vocabulary; ids go from 0 to {record.vocab_size - 1}.",
            metadata={"id": worst, "vocab_size": record.vocab_size},
        )
    return list(ids)
