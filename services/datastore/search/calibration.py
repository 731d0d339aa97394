"""Calibration: choosing how quoting weighs a corpus against its model, on excerpts of the corpus's own documents."""

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
from services.datastore.search.candidate_blocks import candidate_block
from services.datastore.search.passages import PassageHit, SearchResults
from services.datastore.store.catalogue import OpenCorpus
from services.datastore.store.documents import Document
from services.datastore.store.keystore import KeyBlock

SAMPLES, EXCERPT, QUERY, SKIP = 14, 160, 48, 8
"""Excerpts to sample; tokens of an excerpt, of the query at its start, and skipped before likelihoods are compared."""
PASSAGES = 8
"""Passages in the candidate block of an excerpt."""
_SHORTEST = 60
"""Documents with fewer tokens are not sampled."""
_NEIGHBOURS = 1024

Search = Callable[[str, int], SearchResults]
"""Finds at most so many passages for a query."""


def calibrate_corpus(opened: OpenCorpus, search: Search, engine: Engine, progress: Progress) -> Calibration:
    """Choose the mixture's parameters by likelihood, on up to 14 excerpts of 160 tokens.

    Each excerpt is searched with and without its own document. Costs two passes over each excerpt, and the keys of the
    passages found, which are stored.

    Parameters
    ----------
    opened
        The corpus; the caller stores the calibration.
    search
        Searches the corpus.
    engine
        Runs the corpus's model.
    progress
        Reports excerpts.

    Raises
    ------
    FailedPrecondition
        CALIBRATION_EMPTY: too little text, or only one document.
    """
    excerpts = list(_excerpts(opened))
    outside: list[Sample] = []
    within: list[Sample] = []
    for done, (document, start) in enumerate(excerpts):
        progress.step(done, 2 * len(excerpts), "searching and computing keys")
        ids = document.tokens[start : start + EXCERPT].tolist()
        found = search(_text(document, start, QUERY), 4 * PASSAGES)
        for samples, hits in ((outside, _others(found.hits, document)), (within, found.hits)):
            block = _block(opened, engine, replace(found, hits=tuple(hits[:PASSAGES])))
            if not len(block):
                continue
            # A context outside the block is as novel to the mixture as one that occurs nowhere.
            known = grams([*block.left[n], *block.ids(n).tolist()] for n in range(len(block.passages)))
            samples.append(Sample(ids, block, SKIP, seen_in(ids, known, CONTEXT)))
    if not outside:
        raise FailedPrecondition(
            Reason.CALIBRATION_EMPTY,
            f"corpora/{opened.corpus.spec.corpus} has too little text to calibrate on: each document is searched in "
            f"the others. Add at least two related documents of {_SHORTEST} tokens or more.",
        )
    progress.step(len(excerpts), 2 * len(excerpts), "running the model")
    states, own = (submit_states(engine, some, _NEIGHBOURS).result() for some in (outside, within))
    progress.step(2 * len(excerpts), 2 * len(excerpts), "choosing parameters")
    return calibrate(states, own, opened.corpus.spec.model_fingerprint)


def _excerpts(opened: OpenCorpus) -> Iterator[tuple[Document, int]]:
    """Documents and first tokens of excerpts, spread over the corpus; deterministic."""
    documents = [found.document for found in opened.corpus.documents()]
    documents = [document for document in documents if len(document.tokens) >= _SHORTEST]
    draw = random.Random(opened.corpus.spec.corpus)
    samples = min(SAMPLES, len(documents))
    for index in range(samples):
        document = documents[index * len(documents) // samples]
        yield document, draw.randrange(max(1, len(document.tokens) - EXCERPT + 1))


def _text(document: Document, start: int, tokens: int) -> str:
    end = min(start + tokens, len(document.tokens))
    data = document.data[int(document.starts[start]) : int(document.starts[end])]
    return bytes(data).decode(errors="ignore")


def _others(hits: Sequence[PassageHit], document: Document) -> list[PassageHit]:
    """The hits that another document holds too."""
    own = document.head.document
    return [h for h in hits if any(s.document.head.document != own for s in (h.source, *h.owners))]


def _block(opened: OpenCorpus, engine: Engine, found: SearchResults) -> Candidates:
    """The candidate block of some results with all keys; missing keys are computed and stored."""
    corpus, keys = opened
    block = candidate_block(found, {corpus.spec.corpus: opened})
    indices = missing(block)
    if indices:
        computed = submit_keys(engine, passages_of(block, indices)).result()
        fill(block, indices, computed)
        for index, own in zip(indices, computed, strict=True):
            source = found.hits[index].source
            stored = KeyBlock(own.keys, own.scales, own.norms)
            keys.put(source.document.digest(source.passage), stored, corpus.spec.model_fingerprint)
    return block
