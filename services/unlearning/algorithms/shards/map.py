"""Which shard of the fine-tuning data holds which document, and what state each shard's adapter is in.

A document's shard follows from its id alone, so that no other document's place depends on whether it was ever there.
That is what makes removal exact: see :mod:`services.unlearning.algorithms.shards.adapters`.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from palimpsest import json_input
from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.training.batches import Example

MOST_SHARDS = 1024
_MOST_BYTES = 64 << 20
_FORMAT = 1


def shard_of(document: str, count: int, seed: int) -> int:
    """Return the shard of a document, from 0 to ``count`` - 1: the same whatever other documents there are."""
    digest = hashlib.sha256(f"{seed}/{document}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % count


@dataclass(frozen=True)
class ShardMap:
    """The documents of each shard, and the digest of each shard's adapter.

    Attributes
    ----------
    count
        Shards.
    seed
        Decides the assignment and all training.
    documents
        The shard of each document that is held.
    digests
        SHA-256 of each shard's adapter file. A shard that has documents and no digest is to be trained.
    """

    count: int
    seed: int
    documents: Mapping[str, int] = field(default_factory=dict)
    digests: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST_SHARDS:
            message = f"There are 1 to {MOST_SHARDS} shards, not {self.count}."
            raise InvalidArgument.field(Reason.SHARDS_INVALID, "count", message)

    def adding(self, documents: Iterable[str]) -> "ShardMap":
        """Return the map with more documents; their shards are to be trained again."""
        new = {
            name: shard_of(name, self.count, self.seed) for name in documents if name not in self.documents
        }
        return self._changed({**self.documents, **new}, set(new.values()))

    def without(self, documents: Iterable[str]) -> "ShardMap":
        """Return the map without some documents; their shards are to be trained again.

        Raises
        ------
        FailedPrecondition
            SHARD_DOCUMENT_UNKNOWN: one of them is in no shard.
        """
        gone = set(documents)
        if unknown := sorted(gone - self.documents.keys()):
            message = (
                f"No shard holds {unknown[0]!r} (and {len(unknown) - 1} others). There is nothing to remove."
            )
            raise FailedPrecondition(Reason.SHARD_DOCUMENT_UNKNOWN, message)
        kept = {name: shard for name, shard in self.documents.items() if name not in gone}
        return self._changed(kept, {self.documents[name] for name in gone})

    def trained(self, shard: int, digest: str) -> "ShardMap":
        """Return the map after a shard's adapter was written."""
        return replace(self, digests={**self.digests, shard: digest})

    def of_shard(self, shard: int) -> list[str]:
        """Documents of a shard, sorted."""
        return sorted(name for name, place in self.documents.items() if place == shard)

    @property
    def pending(self) -> list[int]:
        """Shards that have documents and no adapter."""
        return sorted(set(self.documents.values()) - self.digests.keys())

    def _changed(self, documents: Mapping[str, int], shards: set[int]) -> "ShardMap":
        kept = {shard: digest for shard, digest in self.digests.items() if shard not in shards}
        return replace(self, documents=documents, digests=kept)

    def to_json(self) -> str:
        """Return it as JSON."""
        facts = {
            "format": _FORMAT,
            "count": self.count,
            "seed": self.seed,
            "documents": dict(sorted(self.documents.items())),
            "digests": {str(shard): digest for shard, digest in sorted(self.digests.items())},
        }
        return json.dumps(facts, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "ShardMap":
        """Read what :meth:`to_json` gave.

        Raises
        ------
        InvalidArgument
            SHARDS_INVALID: it is damaged, or a document is not where its id says.
        """
        try:
            facts: Any = json_input.decode(text, max_bytes=_MOST_BYTES)
            if facts["format"] != _FORMAT:
                raise ValueError(f"format {facts['format']} is not {_FORMAT}")
            documents = {str(name): int(shard) for name, shard in facts["documents"].items()}
            digests = {int(shard): str(digest) for shard, digest in facts["digests"].items()}
            found = cls(int(facts["count"]), int(facts["seed"]), documents, digests)
            strangers = [n for n, s in documents.items() if s != shard_of(n, found.count, found.seed)]
            if strangers:
                raise ValueError(f"{strangers[0]!r} is in another shard than its own")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            message = f"The description of the shards is damaged: {error}. Train the shards again."
            raise InvalidArgument(Reason.SHARDS_INVALID, message) from None
        return found


def by_shard(examples: Sequence[Example], shards: ShardMap) -> dict[int, list[Example]]:
    """Return the examples of each shard's documents, in one order whatever order they came in.

    Parameters
    ----------
    examples
        ``name`` is the document's id; one may have several.
    shards
        What is held; examples of other documents are left out.
    """
    found: dict[int, list[Example]] = {}
    for example in sorted(examples, key=lambda each: (each.name, each.ids, each.counted)):
        if example.name in shards.documents:
            found.setdefault(shards.documents[example.name], []).append(example)
    return found
