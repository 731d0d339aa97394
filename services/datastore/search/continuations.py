"""Verbatim continuations: what follows the last tokens of a text wherever they occur in live documents.

A search ranks passages by similarity to a query. A text that breaks off inside a document is continued by that
document, however other passages rank. Suffix arrays find its occurrences in segments, and a scan in memory.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.datastore.search.passages import PassageHit, PassageSource, SearchResults, owners_of, views_of
from services.datastore.store.corpus import Corpus
from services.datastore.store.documents import Document
from services.datastore.store.memtable import Memtable
from services.datastore.store.results import CorpusView, Part

MAX_OCCURRENCES = 4096
"""Occurrences examined in each part: a match of three tokens may occur almost everywhere."""
LISTED = 4
"""Occurrences returned with each continuation."""
CERTAIN, ADDED = 8, 2
"""A match of at least CERTAIN tokens adds at most ADDED passages to a candidate block."""
CUT, TRIED = 3, 64
"""Last tokens of a prompt that may belong to an unfinished word; occurrences tried for a candidate block."""
AHEAD = 32
"""Tokens a candidate block should be able to continue with; if a passage ends earlier, the next one is added too."""


@dataclass(frozen=True)
class ContinuationQuery:
    """Bounds of the match and length of a continuation, in tokens, and the number of continuations."""

    shortest: int = 3
    longest: int = 16
    length: int = 32
    limit: int = 8


@dataclass(frozen=True)
class Occurrence:
    """An occurrence of a match: tokens ``start`` to ``at`` of a document, continued by tokens ``at`` to ``end``."""

    corpus: str
    part: Part
    row: int
    start: int
    at: int
    end: int

    @property
    def document(self) -> Document:
        """The document that holds the occurrence."""
        return self.part.document(self.row)


@dataclass(frozen=True)
class Continuation:
    """A continuation that follows ``count`` occurrences: token ids, int32 [n], their bytes, and some occurrences."""

    tokens: np.ndarray
    text: bytes
    count: int
    occurrences: tuple[Occurrence, ...]


@dataclass(frozen=True)
class ContinuationResults:
    """The longest match, in tokens and occurrences, its continuations, and the view of each corpus."""

    matched: int
    occurrences: int
    continuations: tuple[Continuation, ...]
    views: dict[str, CorpusView]


def continue_text(
    corpora: Sequence[Corpus], context: np.ndarray, query: ContinuationQuery, min_epochs: Sequence[int] = ()
) -> ContinuationResults:
    """Find the longest suffix of a text that occurs in some corpora, and what follows it there.

    Parameters
    ----------
    corpora
        Corpora of one tokenizer.
    context
        Token ids of the text, int [n].
    query
        Bounds of the match and of the continuations.
    min_epochs
        For each corpus, if given: the epoch it must have reached.

    Returns
    -------
    ContinuationResults
        Distinct continuations, most frequent first.

    Raises
    ------
    Aborted
        CORPUS_EPOCH: a corpus has not reached its epoch.
    """
    views = views_of(corpora, min_epochs)
    matched, occurrences = _occurrences(corpora, views, context, query, MAX_OCCURRENCES)
    groups: dict[bytes, list[Occurrence]] = {}
    for each in occurrences:
        groups.setdefault(each.part.ids(each.row, each.at, each.end).tobytes(), []).append(each)
    frequent = sorted(groups.items(), key=lambda group: -len(group[1]))[: query.limit]
    return ContinuationResults(
        matched,
        len(occurrences),
        tuple(_continuation(ids, group) for ids, group in frequent),
        {c.spec.corpus: v for c, v in zip(corpora, views, strict=True)},
    )


def _continuation(ids: bytes, occurrences: list[Occurrence]) -> Continuation:
    first, document = occurrences[0], occurrences[0].document
    text = bytes(document.data[int(document.starts[first.at]) : int(document.starts[first.end])])
    return Continuation(np.frombuffer(ids, np.int32), text, len(occurrences), tuple(occurrences[:LISTED]))


def _occurrences(
    corpora: Sequence[Corpus],
    views: Sequence[CorpusView],
    context: np.ndarray,
    query: ContinuationQuery,
    limit: int,
) -> tuple[int, list[Occurrence]]:
    """Length of the longest match over all parts, 0 for none, and at most ``limit`` occurrences in each part."""
    matched, occurrences = 0, []
    for corpus, view in zip(corpora, views, strict=True):
        for part in view.parts:
            shortest = max(query.shortest, matched)
            with corpus.lock if isinstance(part, Memtable) else contextlib.nullcontext():
                length, positions = part.suffix(context, shortest, query.longest, limit)
            if length > matched:
                matched, occurrences = length, []
            for row, at in positions:
                end = at + len(part.ids(row, at, at + query.length))
                occurrences.append(Occurrence(corpus.spec.corpus, part, row, at - length, at, end))
    return matched, occurrences


def with_continuations(found: SearchResults, corpora: Sequence[Corpus], tail: Sequence[int]) -> SearchResults:
    """Add to a search's results the passages that continue a prompt from where it breaks off.

    Parameters
    ----------
    found
        Results of a search in these corpora, in this order.
    corpora
        Corpora of one tokenizer.
    tail
        The prompt's last token ids.

    Returns
    -------
    SearchResults
        The same hits, followed by at most ``ADDED`` passages of live documents with the score of the last hit. A match
        of fewer than ``CERTAIN`` tokens adds nothing, and neither does a passage that is a hit already. If the prompt
        ends inside a word, the tokens before that word are matched.
    """
    views = [found.views[corpus.spec.corpus] for corpus in corpora]
    context, occurrences = np.asarray(tail, np.int64), []
    for end in range(len(tail), max(CERTAIN, len(tail) - CUT) - 1, -1):
        query = ContinuationQuery(CERTAIN, end, AHEAD)
        _, occurrences = _occurrences(corpora, views, context[:end], query, TRIED)
        if occurrences:
            break
    hits = list(found.hits)
    # For the query they are no better than the last hit; their keys decide how well they continue the prompt.
    score = hits[-1].score if hits else 1.0
    seen = {hit.source.document.digest(hit.source.passage) for hit in hits}
    for each in occurrences:
        document = each.document
        first, last = each.at // document.passage_tokens, (each.end - 1) // document.passage_tokens
        for passage in range(first, last + 1):
            digest = document.digest(passage)
            if digest in seen:
                continue
            seen.add(digest)
            source = PassageSource(each.corpus, each.part, each.row, passage)
            hits.append(PassageHit(source, score, 0.0, 0.0, owners_of(source, digest, corpora, views)))
            if len(hits) == len(found.hits) + ADDED:
                return replace(found, hits=tuple(hits))
    return replace(found, hits=tuple(hits))
