"""Which items settings are tuned on, and which are kept for the certificate: an item is always in the same half.

What was tuned on certifies nothing. The half is a function of an item's id alone, so that no run, no order and no other
item can move it from one to the other.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from palimpsest.errors import InvalidArgument, Reason

Half = Literal["tune", "certify"]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Halves(Generic[Item]):
    """Items of both halves, in the order in which they were given."""

    tune: tuple[Item, ...]
    certify: tuple[Item, ...]


def half_of(name: str) -> Half:
    """Return the half that an id belongs to, by a bit of its SHA-256."""
    digest = hashlib.sha256(f"tune or certify\n{name}".encode()).digest()
    return "certify" if digest[0] & 1 else "tune"


def halves(items: Sequence[Item], name: Callable[[Item], str]) -> Halves[Item]:
    """Split items.

    Parameters
    ----------
    items
        What is measured: texts, prompts, questions.
    name
        Id of an item. Items that tell of each other, such as questions about one document, take the document's.

    Raises
    ------
    InvalidArgument
        SPLIT_EMPTY: all items fall into one half, as few items may.
    """
    found = Halves(
        tuple(item for item in items if half_of(name(item)) == "tune"),
        tuple(item for item in items if half_of(name(item)) == "certify"),
    )
    if not found.tune or not found.certify:
        message = (
            f"All of the {len(items)} items are in one half, so that nothing is left to tune on or to certify with; "
            "take more of them."
        )
        raise InvalidArgument(Reason.SPLIT_EMPTY, message)
    return found


def require(half: Half, names: Sequence[str]) -> None:
    """Check that all ids belong to a half: called wherever a result depends on one half alone.

    Raises
    ------
    InvalidArgument
        SPLIT_CROSSED: some belong to the other.
    """
    others = [name for name in names if half_of(name) != half]
    if others:
        message = (
            f"{len(others)} of {len(names)} items are not of the half to {half}, such as {others[0]!r}; settings are "
            "never tuned on what certifies them."
        )
        raise InvalidArgument(Reason.SPLIT_CROSSED, message)
