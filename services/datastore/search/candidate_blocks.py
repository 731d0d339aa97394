"""Candidate blocks: the passages a search found, packed with their tokens, byte offsets and keys for the decoder."""

from collections.abc import Mapping

import numpy as np

from palimpsest.candidates import Calibration, Candidates, Owner, Passage
from services.datastore.search.passages import PassageHit, PassageSource, SearchResults
from services.datastore.store.catalogue import OpenCorpus


def candidate_block(found: SearchResults, opened: Mapping[str, OpenCorpus]) -> Candidates:
    """Build the candidate block of a search's results.

    Parameters
    ----------
    found
        Results from corpora that are all in ``opened``.
    opened
        The corpora searched, by id; all bound to the same model.
    """
    sources = [hit.source for hit in found.hits]
    documents = [source.document for source in sources]
    spans = [document.span(source.passage) for document, source in zip(documents, sources, strict=True)]
    tokens, lengths, left = [], [], []
    for source, document, (first, end) in zip(sources, documents, spans, strict=True):
        context = opened[source.corpus].corpus.spec.left_context
        tokens.append(document.tokens[first:end].tolist())
        lengths.append(
            np.diff(document.starts[first : end + 1].astype(np.int64)).tolist()
        )  # bytes of each token
        left.append(document.tokens[max(0, first - context) : first].tolist())
    key_size = next(iter(opened.values())).corpus.spec.key_size
    block = Candidates.without_keys([_passage(hit) for hit in found.hits], tokens, lengths, left, key_size)
    for index, (source, document) in enumerate(zip(sources, documents, strict=True)):
        keys = opened[source.corpus].keys.get(document.digest(source.passage), len(tokens[index]))
        if keys is not None and keys.keys.shape[1] == key_size:
            block.put_keys(index, *keys)
    for corpus_id, view in found.views.items():
        name = f"corpora/{corpus_id}"
        block.epochs[name], block.tombstones[name] = view.epoch, view.tombstone_version
        calibration = opened[corpus_id].corpus.manifest.calibration
        if calibration:
            block.calibrations[name] = Calibration.from_json(calibration)
    return block


def _passage(hit: PassageHit) -> Passage:
    source, document = hit.source, hit.source.document
    first, _ = document.span(source.passage)
    head = document.head
    return Passage(
        corpus=f"corpora/{source.corpus}",
        document=head.document,
        version=head.version,
        passage=source.passage,
        score=hit.score,
        token_start=first,
        title=head.title,
        uri=head.uri,
        text=document.text(source.passage),
        byte_start=int(document.starts[first]),
        char_start=source.part.characters(source.row, source.passage),
        document_sha256=head.sha256,
        owners=tuple(_owner(owner) for owner in hit.owners),
    )


def _owner(source: PassageSource) -> Owner:
    document = source.document
    first, _ = document.span(source.passage)
    return Owner(
        corpus=f"corpora/{source.corpus}",
        document=document.head.document,
        version=document.head.version,
        byte_start=int(document.starts[first]),
        char_start=source.part.characters(source.row, source.passage),
        token_start=first,
        title=document.head.title,
        uri=document.head.uri,
        document_sha256=document.head.sha256,
    )
