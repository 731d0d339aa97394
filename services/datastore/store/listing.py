"""Pages of documents, sorted by the digest of their id: additions, deletions and compaction do not change the order."""

import heapq
import re
from collections.abc import Iterator

import numpy as np

from palimpsest.errors import InvalidArgument, Reason
from services.datastore.store.corpus import Corpus
from services.datastore.store.memtable import Memtable
from services.datastore.store.results import LiveDocument
from services.datastore.store.segment import Segment

PAGE_SIZE, MOST_PER_PAGE = 100, 1000
_DIGEST_TOKEN = re.compile(r"[0-9a-f]{32}")
_ID_TOKEN = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def page(corpus: Corpus, page_size: int, page_token: str) -> tuple[list[LiveDocument], str]:
    """One page of live documents, and the token of the next page; empty after the last.

    Raises
    ------
    InvalidArgument
        PAGE_TOKEN_INVALID.
    """
    size = min(page_size, MOST_PER_PAGE) or PAGE_SIZE
    if page_token and not _DIGEST_TOKEN.fullmatch(page_token):
        raise _not_a_token()
    after = int(page_token, 16) if page_token else -1
    with corpus.lock:
        parts = corpus.view().parts
        rows = heapq.merge(
            *(_sealed(p, after) if isinstance(p, Segment) else _unsealed(p, after) for p in parts),
            key=lambda r: r[0],
        )
        found: list[LiveDocument] = []
        for _, document in rows:
            if len(found) == size:
                return found, token_after(found[-1])
            found.append(document)
    return found, ""


def check_id_token(page_token: str) -> None:
    """Check the page token of a listing by id, which is the last id of the page before.

    Raises
    ------
    InvalidArgument
        PAGE_TOKEN_INVALID.
    """
    if page_token and not _ID_TOKEN.fullmatch(page_token):
        raise _not_a_token()


def _not_a_token() -> InvalidArgument:
    message = "This is not a page token of this method. Begin again without one."
    return InvalidArgument.field(Reason.PAGE_TOKEN_INVALID, "page_token", message)


def token_after(document: LiveDocument) -> str:
    """The token of a page that begins behind a document."""
    return f"{_order(document.head.id_digest):032x}"


def _order(digest: bytes) -> int:
    """Sort key of a digest: its first eight bytes, as segments sort them, then the rest."""
    return int.from_bytes(digest[:8], "little") << 64 | int.from_bytes(digest[8:], "little")


def _sealed(segment: Segment, after: int) -> Iterator[tuple[int, LiveDocument]]:
    hashes = segment.files.id_hash
    at = int(np.searchsorted(hashes, np.uint64(max(after, 0) >> 64)))
    group: list[tuple[int, LiveDocument]] = []
    current = None
    while at < len(hashes):
        if hashes[at] != current:
            yield from sorted(group, key=lambda r: r[0])
            group, current = [], hashes[at]
        row = int(segment.files.id_row[at])
        if segment.liveness.documents[row]:
            order = _order(segment.head(row).id_digest)
            if order > after:
                group.append((order, LiveDocument(segment, row)))
        at += 1
    yield from sorted(group, key=lambda r: r[0])


def _unsealed(memtable: Memtable, after: int) -> Iterator[tuple[int, LiveDocument]]:
    rows = (
        (_order(memtable.head(row).id_digest), LiveDocument(memtable, row))
        for row in memtable.live_documents()
    )
    yield from sorted((r for r in rows if r[0] > after), key=lambda r: r[0])
