"""A chunk's header: its metadata, and the directory of its sections."""

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from palimpsest.errors import DataLoss, FailedPrecondition, Reason

Buffer = bytes | bytearray | memoryview
Digest = Annotated[str, Field(max_length=128)]
Count = Annotated[int, Field(ge=1, le=1 << 20)]


class Kind(IntEnum):
    """What a section holds."""

    SINKS = 1
    KEYS = 2
    VALUES = 3


class Identity(BaseModel):
    """What a chunk belongs to. Empty fields are unknown, and match only empty ones."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: Digest = ""
    """Fingerprint of weights and config."""
    tokenizer: Digest = ""
    prefix: Digest = ""
    """Digest of the token ids up to the end of this chunk, so that a swapped chunk is noticed."""


class Requirements(BaseModel):
    """What a reader has to know before it may make sense of the rest."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    requires: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=64)] = []


class ChunkMeta(Requirements):
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
        """Elements of the decoded chunk."""
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
        CRC-32 over the section's kind and layers, its quantised symbols and whatever else it decodes to. These are
        integers, so the check holds on any device.
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


def checksum_seed(kind: Kind, first_layer: int, layers: int) -> int:
    """Return the start value of a section's symbol checksum, which ties it to its kind and layers."""
    return zlib.crc32(struct.pack("<BHH", kind, first_layer, layers))


def check_identity(found: Identity, expected: Identity) -> None:
    """Refuse a chunk of another model, tokenizer or prefix.

    Raises
    ------
    FailedPrecondition
        KV_IDENTITY_MISMATCH: it belongs to another one; the metadata names it.
    """
    for name in Identity.model_fields:
        if getattr(found, name) != getattr(expected, name):
            raise FailedPrecondition(
                Reason.KV_IDENTITY_MISMATCH,
                f"The chunk was made with another {name}; encode the context again with this one.",
                metadata={"field": name, "found": getattr(found, name), "expected": getattr(expected, name)},
            )
