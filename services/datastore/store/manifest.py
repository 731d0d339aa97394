"""The manifest of a corpus: which segments and logs it is made of, at one epoch.

``CURRENT`` names the manifest that counts. A new one is written beside it, made durable, and then ``CURRENT`` is
replaced: a crash at any byte leaves the old state or the new.
"""

import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from palimpsest.errors import NotFound, Reason
from services.datastore.files import damaged, open_json, seal_json, write_whole

CURRENT = "CURRENT"
SPEC = "SPEC"


@dataclass(frozen=True)
class CorpusSpec:
    """What a corpus is, from its creation on.

    Attributes
    ----------
    model_fingerprint, tokenizer_fingerprint, vocabulary
        Of the model whose tokens and keys it holds.
    encoder, encoder_fingerprint, dim
        Of the passage vectors.
    key_size
        Elements of a token's key: the model's hidden size.
    passage_tokens, left_context
        Tokens of a passage, and those before it that its keys are computed after.
    created
        Seconds since 1970.
    """

    corpus: str
    model: str
    model_fingerprint: str
    tokenizer_fingerprint: str
    vocabulary: int
    encoder: str
    encoder_fingerprint: str
    dim: int
    key_size: int = 0
    passage_tokens: int = 128
    left_context: int = 32
    created: float = 0.0
    labels: dict[str, str] = field(default_factory=dict)

    def same_as(self, other: "CorpusSpec") -> bool:
        """Whether both describe one corpus, whenever it was made."""
        return replace(self, created=0.0) == replace(other, created=0.0)

    def write(self, folder: Path) -> None:
        """Store the spec."""
        write_whole(folder / SPEC, seal_json(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> "CorpusSpec":
        """Read a stored spec.

        Raises
        ------
        NotFound
            CORPUS_NOT_FOUND.
        DataLoss
            CORPUS_DAMAGED.
        """
        try:
            fields: Any = open_json(folder / SPEC)
        except FileNotFoundError:
            raise not_found(folder.name) from None
        return cls(**fields)


@dataclass(frozen=True)
class SegmentEntry:
    """A segment of a manifest: its folder, size, and the rows of documents that are gone."""

    name: str
    documents: int
    tokens: int
    size_bytes: int
    dead: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Manifest:
    """A state of a corpus.

    Attributes
    ----------
    epoch
        Number of the last change; changes in the logs take the numbers after it.
    fence
        Grows each time a job takes the corpus over; a job with an older number may publish nothing any more.
    tombstones
        Epoch of the last deletion that the segments know of.
    logs
        Numbers of the logs to read, in order; the last is written to.
    gone
        Last version of documents that have none alive, by the digest of their id in hexadecimal.
    lost
        Damaged stretches of logs that are not there any more: acknowledged changes that are lost.
    calibration
        What a calibration found, by name.
    """

    epoch: int = 0
    fence: int = 0
    tombstones: int = 0
    segments: tuple[SegmentEntry, ...] = ()
    logs: tuple[int, ...] = (1,)
    gone: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    calibration: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of its file."""
        return f"MANIFEST-{self.epoch:012d}.json"

    def publish(self, folder: Path) -> None:
        """Make this the state that counts."""
        write_whole(folder / self.name, seal_json(asdict(self)))
        write_whole(folder / CURRENT, self.name.encode())
        for old in folder.glob("MANIFEST-*.json"):
            if old.name != self.name:
                old.unlink(missing_ok=True)

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read the state that counts.

        Raises
        ------
        NotFound
            CORPUS_NOT_FOUND.
        DataLoss
            CORPUS_DAMAGED.
        """
        for _ in range(50):  # another process may publish between the two reads
            try:
                name = (folder / CURRENT).read_text(errors="replace")
            except FileNotFoundError:
                raise not_found(folder.name) from None
            try:
                if "/" in name or "\0" in name or not name.startswith("MANIFEST-"):
                    raise damaged(folder / CURRENT)
                fields: Any = open_json(folder / name)
                break
            except FileNotFoundError:
                if name == (folder / CURRENT).read_text(errors="replace"):
                    raise damaged(folder / name, "the file is missing") from None
        else:
            raise damaged(folder / CURRENT)
        fields["segments"] = tuple(SegmentEntry(**entry) for entry in fields["segments"])
        fields["logs"] = tuple(fields["logs"])
        return cls(**fields)


def stamp(folder: Path) -> tuple[int, int]:
    """Changes whenever another manifest counts; costs one look at a file's head."""
    try:
        stat = os.stat(folder / CURRENT)
    except FileNotFoundError:
        raise not_found(folder.name) from None
    return stat.st_ino, stat.st_mtime_ns


def log_name(number: int) -> str:
    """File of a log."""
    return f"WAL-{number:08d}.log"


def tomb_name(number: int) -> str:
    """File of a log's second copy of its deletions."""
    return f"TOMB-{number:08d}.log"


def not_found(corpus: str) -> NotFound:
    """Build the error for a corpus that is not there."""
    message = f"There is no corpora/{corpus}. `palimpsest corpus ls` shows those there are; create it first."
    return NotFound(Reason.CORPUS_NOT_FOUND, message, metadata={"corpus": corpus})
