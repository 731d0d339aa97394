"""The manifest of a corpus: the segments and logs it consists of at one epoch.

``CURRENT`` names the current manifest. A new manifest is written and synced first, and then ``CURRENT`` is replaced:
a crash at any byte leaves the old state or the new one.
"""

import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from palimpsest.disk import replace_file
from palimpsest.errors import NotFound, Reason
from services.datastore.files import damaged, open_json, seal_json

CURRENT = "CURRENT"
SPEC = "SPEC"


@dataclass(frozen=True)
class CorpusSpec:
    """The properties of a corpus that are fixed at its creation.

    Attributes
    ----------
    model_fingerprint, tokenizer_fingerprint, vocabulary
        The model whose tokens and keys the corpus holds.
    encoder, encoder_fingerprint, dim
        The sentence encoder of the passage vectors.
    key_size
        Elements of a token's key: the model's hidden size.
    passage_tokens, left_context
        Tokens in a passage, and tokens before it that its keys are conditioned on.
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
        """Whether both describe the same corpus, apart from its creation time."""
        return replace(self, created=0.0) == replace(other, created=0.0)

    def write(self, folder: Path) -> None:
        """Store the spec."""
        replace_file(folder / SPEC, seal_json(asdict(self)), durable=True)

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
    """A segment in a manifest: its folder, size, and the rows of its deleted documents."""

    name: str
    documents: int
    tokens: int
    size_bytes: int
    dead: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Manifest:
    """A published state of a corpus. The fields are the keys of the manifest's JSON file.

    Attributes
    ----------
    epoch
        Number of the last change; changes in the logs have the numbers after it.
    fence
        Grows each time a job takes over the corpus; a job with a smaller number can no longer publish.
    tombstones
        Epoch of the last deletion applied to the segments.
    logs
        Numbers of the logs to read, in order; the last one is appended to.
    gone
        Last deleted version of each document, by the hexadecimal digest of its id.
    lost
        Damaged byte ranges of logs that were sealed since: acknowledged changes that are lost.
    calibration
        Parameters found by a calibration, by name.
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
        """Name of the manifest's file."""
        return f"MANIFEST-{self.epoch:012d}.json"

    def publish(self, folder: Path) -> None:
        """Make this the current manifest."""
        replace_file(folder / self.name, seal_json(asdict(self)), durable=True)
        replace_file(folder / CURRENT, self.name.encode(), durable=True)
        for old in folder.glob("MANIFEST-*.json"):
            if old.name != self.name:
                old.unlink(missing_ok=True)

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read the current manifest.

        Raises
        ------
        NotFound
            CORPUS_NOT_FOUND.
        DataLoss
            CORPUS_DAMAGED.
        """
        for _ in range(50):  # another process may publish between reading CURRENT and the manifest
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
    """Identity of the current manifest: changes whenever one is published. Costs one ``stat``."""
    try:
        stat = os.stat(folder / CURRENT)
    except FileNotFoundError:
        raise not_found(folder.name) from None
    return stat.st_ino, stat.st_mtime_ns


def log_name(number: int) -> str:
    """File name of a log."""
    return f"WAL-{number:08d}.log"


def tomb_name(number: int) -> str:
    """File name of the second copy of a log's deletions."""
    return f"TOMB-{number:08d}.log"


def not_found(corpus: str) -> NotFound:
    """Build the error for a corpus that does not exist."""
    message = f"corpora/{corpus} does not exist. List your corpora with `palimpsest corpus ls`, or create it."
    return NotFound(Reason.CORPUS_NOT_FOUND, message, metadata={"corpus": corpus})
