"""What stands right after the last tokens of a text, word for word, in any live document: no scores, no vectors.

A search finds what is like a query; a text that breaks off within a document is continued by that document, whatever
else its words are like. Suffix arrays know where it stands in segments, a scan where it stands in memory.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.datastore.search.search import Hit, Place, Searched, owners_of, views_of
from services.datastore.store.corpus import Corpus
from services.datastore.store.documents import Document
from services.datastore.store.memtable import Memtable
from services.datastore.store.results import Part, View

LOOKED_AT = 4096
"""Places of a part that are looked at: a match of three tokens may stand almost everywhere."""
LISTED = 4
"""Places named of each continuation."""
CERTAIN, ADDED = 8, 2
"""Tokens of a match that puts passages into a candidate block, and how many passages at most."""
CUT, TRIED = 3, 64
"""Last tokens of a prompt that may be pieces of a word that documents have whole; places tried for a block."""
AHEAD = 32
"""Tokens that a block should be able to continue with; where a passage ends before, the next one comes too."""


@dataclass(frozen=True)
class Wanted:
    """Bounds of the match and the length of continuations, in tokens, and how many of them."""

    shortest: int = 3
    longest: int = 16
    length: int = 32
    limit: int = 8


@dataclass(frozen=True)
class Occurrence:
    """Where a match stands, and its continuation: tokens of a document, from one to another to the end."""

    corpus: str
    part: Part
    row: int
    start: int
    at: int
    end: int

    @property
    def document(self) -> Document:
        """Whose tokens they are."""
        return self.part.document(self.row)


@dataclass(frozen=True)
class Continuation:
    """What stands after a match in ``count`` places: token ids, int32 [n], their bytes, and some of the places."""

    tokens: np.ndarray
    text: bytes
    count: int
    occurrences: tuple[Occurrence, ...]


@dataclass(frozen=True)
class Continued:
    """The longest match there is, in tokens and places, its continuations, and the states seen by corpus."""

    matched: int
    occurrences: int
    continuations: tuple[Continuation, ...]
    views: dict[str, View]


def continue_text(
    corpora: Sequence[Corpus], context: np.ndarray, wanted: Wanted, min_epochs: Sequence[int] = ()
) -> Continued:
    """Find how the longest suffix of a text that stands in some corpora and goes on there goes on.

    Parameters
    ----------
    corpora
        Of one tokenizer.
    context
        Token ids, int [n].
    wanted
        Bounds.
    min_epochs
        Of each corpus, where any: what it has to know of.

    Returns
    -------
    Continued
        Continuations by how often they stand there, most frequent first.

    Raises
    ------
    Aborted
        CORPUS_EPOCH: a corpus has not come so far.
    """
    views = views_of(corpora, min_epochs)
    matched, found = _occurrences(corpora, views, context, wanted, LOOKED_AT)
    groups: dict[bytes, list[Occurrence]] = {}
    for each in found:
        groups.setdefault(each.part.ids(each.row, each.at, each.end).tobytes(), []).append(each)
    frequent = sorted(groups.items(), key=lambda group: -len(group[1]))[: wanted.limit]
    return Continued(
        matched,
        len(found),
        tuple(_continuation(ids, places) for ids, places in frequent),
        {c.spec.corpus: v for c, v in zip(corpora, views, strict=True)},
    )


def _continuation(ids: bytes, places: list[Occurrence]) -> Continuation:
    first, document = places[0], places[0].document
    text = bytes(document.data[int(document.starts[first.at]) : int(document.starts[first.end])])
    return Continuation(np.frombuffer(ids, np.int32), text, len(places), tuple(places[:LISTED]))


def _occurrences(
    corpora: Sequence[Corpus], views: Sequence[View], context: np.ndarray, wanted: Wanted, most: int
) -> tuple[int, list[Occurrence]]:
    """The longest match in all parts, 0 for none, and where it stands: at most so many places of a part."""
    matched, found = 0, []
    for corpus, view in zip(corpora, views, strict=True):
        for part in view.parts:
            shortest = max(wanted.shortest, matched)
            with corpus.lock if isinstance(part, Memtable) else contextlib.nullcontext():
                length, places = part.suffix(context, shortest, wanted.longest, most)
            if length > matched:
                matched, found = length, []
            for row, at in places:
                end = at + len(part.ids(row, at, at + wanted.length))
                found.append(Occurrence(corpus.spec.corpus, part, row, at - length, at, end))
    return matched, found


def with_continuations(found: Searched, corpora: Sequence[Corpus], tail: Sequence[int]) -> Searched:
    """Add to what a search found the passages that go on from where a prompt breaks off.

    Parameters
    ----------
    found
        Of these corpora, in this order.
    corpora
        Of one tokenizer.
    tail
        The prompt's last token ids.

    Returns
    -------
    Searched
        The same hits, and behind them, with the score of the last, at most ``ADDED`` passages of live documents.
        Nothing is added for a match of fewer than ``CERTAIN`` tokens, nor what is a hit already. Where a prompt
        breaks off within a word, what stands before that word counts.
    """
    views = [found.views[corpus.spec.corpus] for corpus in corpora]
    context, places = np.asarray(tail, np.int64), []
    for end in range(len(tail), max(CERTAIN, len(tail) - CUT) - 1, -1):
        _, places = _occurrences(corpora, views, context[:end], Wanted(CERTAIN, end, AHEAD), TRIED)
        if places:
            break
    hits = list(found.hits)
    # They are no better than the last by what was asked for; that they fit is for their keys to say.
    score = hits[-1].score if hits else 1.0
    seen = {hit.place.document.digest(hit.place.passage) for hit in hits}
    for each in places:
        document = each.document
        for passage in range(
            each.at // document.passage_tokens, (each.end - 1) // document.passage_tokens + 1
        ):
            digest = document.digest(passage)
            if digest in seen:
                continue
            seen.add(digest)
            place = Place(each.corpus, each.part, each.row, passage)
            hits.append(Hit(place, score, 0.0, 0.0, owners_of(place, digest, corpora, views)))
            if len(hits) == len(found.hits) + ADDED:
                return replace(found, hits=tuple(hits))
    return replace(found, hits=tuple(hits))
