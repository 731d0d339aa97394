"""Choosing how a corpus is weighed against its model, from stretches of its own documents."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from palimpsest.candidates import Calibration, Candidates
from palimpsest.candidates.calibration import CONTEXT, calibrate, grams, seen_in
from palimpsest.candidates.keys import fill, missing, passages_of, submit_keys
from palimpsest.candidates.samples import Sample, submit_states
from palimpsest.engine import Engine
from palimpsest.errors import FailedPrecondition, Reason
from palimpsest.progress import Progress
from services.datastore.search.search import Hit, Searched
from services.datastore.search.sessions import candidate_block
from services.datastore.store.catalogue import Opened
from services.datastore.store.documents import Document
from services.datastore.store.keystore import KeyBlock

SAMPLES, STRETCH, QUERY, SKIP = 14, 160, 48, 8
PASSAGES = 8
_LEAST = 60
_NEIGHBOURS = 1024

Search = Callable[[str, int], Searched]
"""Passages for a query, at most so many."""


def calibrate_corpus(opened: Opened, search: Search, engine: Engine, progress: Progress) -> Calibration:
    """Sample up to 14 stretches of 160 tokens, search each with and without its own document, choose by likelihood.

    Costs two passes over each stretch, and the keys of the passages found, which are kept.

    Parameters
    ----------
    opened
        The corpus; its calibration is not set here.
    search
        In it.
    engine
        Of its model.
    progress
        Steps are stretches.

    Raises
    ------
    FailedPrecondition
        CALIBRATION_EMPTY: too little text, or nothing but one document.
    """
    stretches = list(_stretches(opened))
    outside: list[Sample] = []
    within: list[Sample] = []
    for number, (document, start) in enumerate(stretches):
        progress.step(number, 2 * len(stretches), "searching and computing keys")
        ids = document.tokens[start : start + STRETCH].tolist()
        found = search(_text(document, start, QUERY), 4 * PASSAGES)
        for samples, hits in ((outside, _others(found.hits, document)), (within, found.hits)):
            block = _block(opened, engine, replace(found, hits=tuple(hits[:PASSAGES])))
            if not len(block):
                continue
            # What is not in the block is as new to the mixture as what is nowhere.
            known = grams([*block.left[n], *block.ids(n).tolist()] for n in range(len(block.passages)))
            samples.append(Sample(ids, block, SKIP, seen_in(ids, known, CONTEXT)))
    if not outside:
        raise FailedPrecondition(
            Reason.CALIBRATION_EMPTY,
            "Calibrating searches each document's text in the others: add at least two of some sixty tokens.",
        )
    progress.step(len(stretches), 2 * len(stretches), "reading the samples")
    states, own = (submit_states(engine, some, _NEIGHBOURS).result() for some in (outside, within))
    progress.step(2 * len(stretches), 2 * len(stretches), "choosing")
    return calibrate(states, own, opened.corpus.spec.model_fingerprint)


def _stretches(opened: Opened) -> Iterator[tuple[Document, int]]:
    """Documents and first tokens, spread over the corpus; the same ones each time."""
    documents = [found.document for found in opened.corpus.documents()]
    documents = [document for document in documents if len(document.tokens) >= _LEAST]
    draw = random.Random(opened.corpus.spec.corpus)
    for number in range(min(SAMPLES, len(documents))):
        document = documents[number * len(documents) // min(SAMPLES, len(documents))]
        yield document, draw.randrange(max(1, len(document.tokens) - STRETCH + 1))


def _text(document: Document, start: int, tokens: int) -> str:
    end = min(start + tokens, len(document.tokens))
    data = document.data[
        int(document.starts[start]) : int(document.starts[end])
    ]  # bytes, or a view of a file
    return bytes(data).decode(errors="ignore")


def _others(hits: Sequence[Hit], document: Document) -> list[Hit]:
    """Hits that another document holds too."""
    own = document.head.document
    return [h for h in hits if any(p.document.head.document != own for p in (h.place, *h.owners))]


def _block(opened: Opened, engine: Engine, found: Searched) -> Candidates:
    """The candidates with their keys, which are stored where they were not."""
    corpus, keys = opened
    block = candidate_block(found, {corpus.spec.corpus: opened})
    lacking = missing(block)
    if lacking:
        computed = submit_keys(engine, passages_of(block, lacking)).result()
        fill(block, lacking, computed)
        for number, own in zip(lacking, computed, strict=True):
            place = found.hits[number].place
            stored = KeyBlock(own.keys, own.scales, own.norms)
            keys.put(place.document.digest(place.passage), stored, corpus.spec.model_fingerprint)
    return block
