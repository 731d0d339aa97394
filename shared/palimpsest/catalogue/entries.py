"""The entries of a catalogue; see the package."""

import re
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files
from typing import Generic, TypeVar, cast

import redis

from palimpsest.catalogue.layout import Layout, Links
from palimpsest.errors import InvalidArgument, PalimpsestError, Reason
from palimpsest.paging import ANSWER_BYTES
from palimpsest.redis import growing, translated, unbounded

T = TypeVar("T")

_POSITION = re.compile(r"[1-9][0-9]{0,14}")
"""A token of entries by creation: their score, which Redis keeps as a float."""

PAGE_SIZE, MOST_PER_PAGE = 100, 1000
"""Entries of a page if the request does not say, and at most."""


class Catalogue(Generic[T]):
    """Entries by id. Blocks, and may be called from any thread.

    Parameters
    ----------
    client
        Redis; answers are bytes.
    layout
        How entries are stored.
    missing
        Builds the error for an id that is not there.
    held
        Builds the error for an entry that cannot be deleted, from its id and the members that hold it. Needed where
        links have ``held_by``.

    Raises
    ------
    Unavailable
        Every method: JOB_STORE_UNAVAILABLE, if Redis does not answer.
    ResourceExhausted
        ``put`` and ``update``: JOB_STORE_FULL.
    """

    def __init__(
        self,
        client: redis.Redis,
        layout: Layout[T],
        missing: Callable[[str], PalimpsestError],
        held: Callable[[str, list[str]], PalimpsestError] | None = None,
    ) -> None:
        self._redis, self._layout, self._missing, self._held = client, layout, missing, held
        body = files("palimpsest.catalogue").joinpath("entries.lua").read_text()
        # Where Redis is full only jobs add and change, but everybody's entries can be deleted.
        self._grows, self._shrinks = growing(client, body), unbounded(client, body)

    def put(self, entry_id: str, entry: T) -> T | None:
        """Add an entry; returns None if it was added, or else the entry that has the id already.

        Raises
        ------
        PalimpsestError
            ``missing``: an entry that the links need is not there.
        """
        values = self._layout.write(entry)
        self._layout.read(values)  # an entry that cannot be read would break every list that it is in
        word, rest = self._change("put", entry_id, self._layout.links(entry), values)
        if word == "missing":
            raise self._missing(rest[0])
        return self._layout.read(rest) if word == "there" else None

    def find(self, entry_id: str) -> T | None:
        """Return an entry; None if there is none."""
        values = self._rows([entry_id])[0]
        return self._layout.read(values) if values is not None else None

    def get(self, entry_id: str) -> T:
        """Return an entry.

        Raises
        ------
        PalimpsestError
            ``missing``: there is none.
        """
        return self._layout.read(self._values(entry_id))

    def find_all(self, entry_ids: Iterable[str]) -> "list[T]":
        """Return those of some entries that are there, in one round trip."""
        return [self._layout.read(values) for values in self._rows(list(entry_ids)) if values is not None]

    def ids(self) -> "list[str]":
        """The ids of all entries, in the order of ``list``."""
        with translated():
            return [
                each.decode() for each in cast(list[bytes], self._redis.zrange(self._layout.index, 0, -1))
            ]

    def list(
        self, page_size: int = 0, page_token: str = "", where: Callable[[T], bool] | None = None
    ) -> "tuple[list[T], str]":
        """Return one page of entries and the token of the next; the token is empty after the last.

        A page ends early where its entries would not fit an answer. Entries that are added or deleted between two
        pages move no other entry to another page.

        Parameters
        ----------
        page_size
            Most entries; 0: ``PAGE_SIZE``. More than ``MOST_PER_PAGE`` count as that.
        page_token
            From the page before.
        where
            Only entries for which it returns true; the others are read and skipped.

        Raises
        ------
        InvalidArgument
            PAGE_TOKEN_INVALID.
        """
        size = min(page_size, MOST_PER_PAGE) or PAGE_SIZE
        found: list[tuple[T, str]] = []
        left = ANSWER_BYTES
        after = self._checked(page_token)
        while True:
            # One more than a page, to know whether another page follows.
            positions = self._after(after, size + 1)
            rows = self._rows([entry_id for entry_id, _ in positions])
            for (_, position), values in zip(positions, rows, strict=True):
                if values is None:
                    continue
                entry = self._layout.read(values)
                if where is not None and not where(entry):
                    continue
                left -= self._layout.size(values)
                if len(found) == size or (found and left < 0):
                    return [each for each, _ in found], found[-1][1]
                found.append((entry, position))
            if len(positions) <= size:
                return [each for each, _ in found], ""
            after = positions[-1][1]

    def update(self, entry_id: str, change: Callable[[T], T]) -> T:
        """Change an entry whose links stay as they are; returns what it is now.

        Parameters
        ----------
        entry_id
            Its id.
        change
            Entry to the changed entry; called again if another change came in between.

        Raises
        ------
        PalimpsestError
            ``missing``: there is none.
        """
        while True:
            values = self._values(entry_id)
            entry = change(self._layout.read(values))
            word, _ = self._change("update", entry_id, Links(), [*values, *self._layout.write(entry)])
            if word == "done":
                return entry

    def delete(self, entry_id: str) -> T:
        """Delete an entry with its links and return what it was.

        Raises
        ------
        PalimpsestError
            ``missing``: there is none. ``held``: its links keep it.
        """
        while True:
            values = self._values(entry_id)
            entry = self._layout.read(values)
            word, rest = self._change("delete", entry_id, self._layout.links(entry), values)
            if word == "held":
                assert self._held is not None
                raise self._held(entry_id, sorted(rest))
            if word == "done":
                return entry

    def _change(
        self, change: str, entry_id: str, links: Links, values: Sequence[str]
    ) -> "tuple[str, list[str]]":
        """Run one change of entries.lua; returns its word and what belongs to it."""
        layout = self._layout
        fields = layout.fields(entry_id)
        order = "name" if layout.by_name else "created"
        script = self._shrinks if change == "delete" else self._grows
        with translated():
            reply = script(
                keys=[layout.index, f"{layout.index}:next", layout.row(entry_id)],
                args=[change, entry_id, order, links.to_json(), len(fields), *fields, *values],
            )
        word, *rest = (part.decode() for part in cast(list[bytes], reply))
        return word, rest

    def _values(self, entry_id: str) -> "list[str]":
        values = self._rows([entry_id])[0]
        if values is None:
            raise self._missing(entry_id)
        return values

    def _rows(self, entry_ids: Sequence[str]) -> "list[list[str] | None]":
        """The stored fields of each id; None where there is no entry."""
        with translated(), self._redis.pipeline(transaction=False) as pipe:
            for entry_id in entry_ids:
                pipe.hmget(self._layout.row(entry_id), list(self._layout.fields(entry_id)))
            rows = cast("list[list[bytes | None]]", pipe.execute())
        return [
            [value.decode() if value is not None else "" for value in row] if row[0] is not None else None
            for row in rows
        ]

    def _checked(self, page_token: str) -> str:
        if page_token and not self._layout.by_name and not _POSITION.fullmatch(page_token):
            message = "This is not a page token of this method. Begin again without one."
            raise InvalidArgument.field(Reason.PAGE_TOKEN_INVALID, "page_token", message)
        return page_token

    def _after(self, token: str, count: int) -> "list[tuple[str, str]]":
        """The next ids behind a page token, and the token behind each."""
        index = self._layout.index
        with translated():
            if self._layout.by_name:
                low = f"({token}" if token else "-"
                names = cast(list[bytes], self._redis.zrangebylex(index, low, "+", 0, count))
                return [(name.decode(), name.decode()) for name in names]
            rows = cast(
                list[tuple[bytes, float]],
                self._redis.zrangebyscore(index, f"({token or 0}", "+inf", 0, count, withscores=True),
            )
            return [(entry_id.decode(), str(int(score))) for entry_id, score in rows]
