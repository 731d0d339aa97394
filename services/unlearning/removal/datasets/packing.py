"""Examples in flat arrays: four bytes a token, where tuples of Python's integers and truth values take fifty."""

from array import array
from collections.abc import Sequence
from typing import overload

from palimpsest.training.batches import Example


class PackedExamples(Sequence[Example]):
    """A sequence of examples of which each is made when it is asked for.

    Of every one all tokens from some place on count, as they do of documents and of answers. Two of one place are equal
    in content and not the same object.
    """

    def __init__(self) -> None:
        self._ids = array("i")
        self._ends = array("q")
        self._counted = array("i")
        self._names: list[str] = []

    def append(self, ids: Sequence[int], start: int, name: str) -> None:
        """Add an example.

        Parameters
        ----------
        ids
            Token ids, at least one.
        start
            Position of the first token that counts.
        name
            Id of the entry that it is of.
        """
        self._ids.extend(ids)
        self._ends.append(len(self._ids))
        self._counted.append(start)
        self._names.append(name)

    @property
    def tokens(self) -> int:
        """Tokens of all of them."""
        return len(self._ids)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...

    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        ids = tuple(self._ids[self._ends[at - 1] if at else 0 : self._ends[at]])
        start = self._counted[at]
        return Example(ids, tuple(place >= start for place in range(len(ids))), self._names[at])
