"""What every forward pass takes and gives: new tokens of several sequences in, logits and hidden states out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch

from palimpsest.lm.paged_cache import PagedCache


class Cache(Protocol):
    """Keys and values (or other state) of one sequence."""

    length: int

    @property
    def can_crop(self) -> bool:
        """Whether :meth:`crop` works; if not, tokens stay once they are in."""
        ...

    def accepts(self, keys: torch.Tensor, values: torch.Tensor) -> bool:
        """Whether :meth:`load` can append these; if not, the tokens have to be computed."""
        ...

    def branch(self) -> "Cache":
        """A sequence with the same past."""
        ...

    def crop(self, length: int) -> None:
        """Forget the tokens from position ``length`` on."""
        ...

    def export(self, start: int = 0, stop: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Copy keys and values out, each [layers, kv_heads, tokens, head_dim]."""
        ...

    def load(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Append keys and values in the form :meth:`export` gives."""
        ...

    def release(self) -> None:
        """Give the memory back."""
        ...


@dataclass
class SequenceInput:
    """The new tokens of one sequence in one forward pass.

    Parameters
    ----------
    cache
        The sequence's past; grows by the new tokens.
    ids
        Token ids, or
    embeddings
        input embeddings [tokens, hidden] in their place (superposed tokens, say).
    logits
        For which of the new positions logits are wanted.
    retrieval_queries
        For which of them the input of the last layer's MLP is wanted.
    after, shared
        The new tokens follow the first ``shared`` new tokens of ``after``, an earlier entry of the same pass whose
        cache has the same past: those are read once, and their keys and values go to both caches. So a trie of
        continuations costs its nodes, and each branch ends up with a past of its own.
    """

    cache: Cache
    ids: Sequence[int] | None = None
    embeddings: torch.Tensor | None = None
    logits: Literal["none", "last", "all"] = "last"
    retrieval_queries: Literal["none", "last", "all"] = "none"
    after: "SequenceInput | None" = None
    shared: int = 0

    @property
    def grows(self) -> int:
        """By how many tokens the cache grows."""
        return self.shared + self.count

    @property
    def count(self) -> int:
        """How many new tokens there are."""
        if self.embeddings is not None:
            return self.embeddings.shape[0]
        return len(self.ids or ())

    @property
    def outputs(self) -> int:
        """How many rows of logits are wanted."""
        return {"none": 0, "last": 1, "all": self.count}[self.logits]

    @property
    def query_outputs(self) -> int:
        """How many rows of MLP inputs are wanted."""
        return {"none": 0, "last": 1, "all": self.count}[self.retrieval_queries]


@dataclass
class Output:
    """What a forward pass says about one sequence's new tokens.

    Attributes
    ----------
    logits
        [positions asked for, vocabulary], float32.
    hidden
        For each layer asked for, [tokens, hidden], float32; numbered as transformers does: 0 is the embedding,
        n what layer n puts out, and the last one is after the final norm.
    retrieval_queries
        [positions asked for, hidden], float32: what the last layer's MLP reads, after its norm. None where nothing
        was asked for.
    """

    logits: torch.Tensor
    hidden: dict[int, torch.Tensor] = field(default_factory=dict)
    retrieval_queries: torch.Tensor | None = None


@dataclass
class Copies:
    """Rows that several caches hold.

    Attributes
    ----------
    caches
        For each row, the numbers of the other caches that hold it, at the same position.
    """

    caches: list[list[int]]

    @classmethod
    def of(cls, rows: Sequence[SequenceInput]) -> "Copies | None":
        """What the entries of one pass share; None if nothing."""
        if all(row.after is None for row in rows):
            return None
        caches: list[list[int]] = [[] for _ in range(sum(row.count for row in rows))]
        paths: dict[int, list[int]] = {}
        first = 0
        for number, row in enumerate(rows):
            path = paths[id(row.after)][: row.shared] if row.after is not None else []
            for earlier in path:
                caches[earlier].append(number)
            paths[id(row)] = [*path, *range(first, first + row.count)]
            first += row.count
        return cls(caches)


class Paged(Protocol):
    """A forward pass over paged caches: already embedded rows, positions made room for."""

    def run(
        self, caches: Sequence[PagedCache], counts: Sequence[int], x: torch.Tensor, outputs: Sequence[int],
        hidden: Sequence[int], queries: Sequence[int], copies: "Copies | None" = None,
    ) -> tuple[torch.Tensor, dict[int, torch.Tensor], torch.Tensor]:  # fmt: skip
        """Run all layers over the last ``counts`` tokens of each cache.

        Parameters
        ----------
        caches, counts
            Sequences, already extended, and how many of their last tokens are new.
        x
            Input embeddings of all new tokens, one sequence after another: [rows, hidden].
        outputs
            Row numbers of which logits are wanted, ascending.
        hidden
            Layers of which hidden states are wanted.
        queries
            Row numbers of which the last MLP's input is wanted, ascending.
        copies
            Which rows' keys and values other caches hold too.

        Returns
        -------
        tuple
            Logits [outputs, vocabulary], hidden states {layer: [rows, hidden]} and MLP inputs [queries, hidden], all
            float32.
        """
        ...
