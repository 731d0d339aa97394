"""How a catalogue's entries are stored, and what goes with them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Links:
    """What goes with an entry; keys are complete, prefix included.

    Attributes
    ----------
    members
        ``(key of a SET, member)``: added with the entry and removed with it.
    counts
        ``(key of a HASH, field)``: counted up with the entry and down when it goes; a field at 0 is removed.
    needs
        Ids of entries of the same catalogue that must be there when this one is added.
    held_by
        Key of a SET: while it has members the entry cannot be deleted. Empty: nothing holds it.
    """

    members: Sequence[tuple[str, str]] = ()
    counts: Sequence[tuple[str, str]] = ()
    needs: Sequence[str] = ()
    held_by: str = ""

    def to_json(self) -> str:
        """The links as the scripts read them."""
        return json.dumps(asdict(self))


def _one_field(_id: str) -> Sequence[str]:
    return ("record",)


def _bytes(values: Sequence[str]) -> int:
    return sum(len(value.encode()) for value in values)


def _no_links(_entry: object) -> Links:
    return Links()


@dataclass(frozen=True)
class Layout(Generic[T]):
    """How the entries of a catalogue are stored.

    Attributes
    ----------
    index
        Key of the ZSET of ids.
    row
        Id to the key of the HASH with the entry's fields.
    write
        Entry to the values of its fields.
    read
        The values to the entry; "" for a field that an older version did not store.
    fields
        Id to the names of its fields. The first is never missing.
    links
        Entry to its links.
    by_name
        List by id rather than by order of creation.
    size
        The values to the bytes that the entry takes in a list, or more; by default all of theirs.
    """

    index: str
    row: Callable[[str], str]
    write: Callable[[T], Sequence[str]]
    read: Callable[[Sequence[str]], T]
    fields: Callable[[str], Sequence[str]] = _one_field
    links: Callable[[T], Links] = field(default=_no_links)
    by_name: bool = False
    size: Callable[[Sequence[str]], int] = _bytes
