"""From hits to a candidate block, and from quotes back to what documents hold."""

import hashlib
from collections.abc import Mapping
from enum import Enum

import numpy as np

from palimpsest.candidates import Calibration, Candidates, Owner, Passage
from palimpsest.errors import DataLoss, InvalidArgument, NotFound, Reason
from services.datastore.search.search import Hit, Place, Searched
from services.datastore.store.catalogue import Opened
from services.datastore.store.corpus import Corpus
from services.datastore.store.keystore import KeyBlock


def candidate_block(found: Searched, opened: Mapping[str, Opened]) -> Candidates:
    """Build the block of what a search found.

    Parameters
    ----------
    found
        Of corpora that are all in ``opened``.
    opened
        The corpora searched, by id: all of one model.
    """
    hits = found.hits
    spans = [hit.place.document.span(hit.place.passage) for hit in hits]
    documents = [hit.place.document for hit in hits]
    tokens = [d.tokens[a:b].tolist() for d, (a, b) in zip(documents, spans, strict=True)]
    lengths = [
        np.diff(d.starts[a : b + 1].astype(np.int64)) for d, (a, b) in zip(documents, spans, strict=True)
    ]
    any_spec = next(iter(opened.values())).corpus.spec
    left = [
        d.tokens[max(0, a - opened[hit.place.corpus].corpus.spec.left_context) : a].tolist()
        for hit, d, (a, _) in zip(hits, documents, spans, strict=True)
    ]
    block = Candidates.without_keys(
        [_passage(hit) for hit in hits], tokens, [n.tolist() for n in lengths], left, any_spec.key_size
    )
    for number, hit in enumerate(hits):
        keys = opened[hit.place.corpus].keys.get(
            documents[number].digest(hit.place.passage), len(tokens[number])
        )
        if keys is not None and keys.keys.shape[1] == any_spec.key_size:
            block.put_keys(number, *keys)
    for corpus_id, view in found.views.items():
        name = f"corpora/{corpus_id}"
        block.epochs[name], block.tombstones[name] = view.epoch, view.tombstones
        calibration = opened[corpus_id].corpus.manifest.calibration
        if calibration:
            block.calibrations[name] = Calibration.from_json(calibration)
    return block


def _passage(hit: Hit) -> Passage:
    place, document = hit.place, hit.place.document
    first, _ = document.span(place.passage)
    head = document.head
    return Passage(
        corpus=f"corpora/{place.corpus}",
        document=head.document,
        version=head.version,
        passage=place.passage,
        score=hit.score,
        token_start=first,
        title=head.title,
        uri=head.uri,
        text=document.text(place.passage),
        byte_start=int(document.starts[first]),
        char_start=place.part.characters(place.row, place.passage),
        document_sha256=head.sha256,
        owners=tuple(_owner(owner) for owner in hit.owners),
    )


def _owner(place: Place) -> Owner:
    document = place.document
    first, _ = document.span(place.passage)
    return Owner(
        corpus=f"corpora/{place.corpus}",
        document=document.head.document,
        version=document.head.version,
        byte_start=int(document.starts[first]),
        char_start=place.part.characters(place.row, place.passage),
        token_start=first,
        title=document.head.title,
        uri=document.head.uri,
        document_sha256=document.head.sha256,
    )


def put_keys(
    opened: Opened,
    document: str,
    version: int,
    passage: int,
    keys: bytes,
    scales: bytes,
    norms: bytes,
    fingerprint: str,
) -> bool:
    """Keep the keys of one passage of n tokens; False if it is gone.

    Parameters
    ----------
    opened
        The corpus, with keys of ``key_size`` elements.
    document, version, passage
        Whose they are.
    keys, scales, norms
        int8 [n, key_size] row-major, float32 [n] and float32 [n], little-endian.
    fingerprint
        Of the model that made them.

    Raises
    ------
    InvalidArgument
        KEYS_INVALID: there is no such passage, or they do not fit it.
    FailedPrecondition
        CORPUS_MODEL_MISMATCH.
    """
    corpus, store = opened
    try:
        found = corpus.find(document, version).document
    except NotFound:
        return False
    if passage >= found.passages:
        raise InvalidArgument(Reason.KEYS_INVALID, f"{document!r} has {found.passages} passages.")
    first, end = found.span(passage)
    count, size = end - first, corpus.spec.key_size
    if (len(keys), len(scales), len(norms)) != (count * size, 4 * count, 4 * count):
        raise InvalidArgument(
            Reason.KEYS_INVALID,
            f"Passage {passage} of {document!r} has {count} tokens; keys are int8 [{count}, {size}], "
            f"scales and norms float32 [{count}].",
            metadata={"tokens": count, "key_size": size},
        )
    block = KeyBlock(
        np.frombuffer(keys, np.int8).reshape(count, size),
        np.frombuffer(scales, "<f4"),
        np.frombuffer(norms, "<f4"),
    )
    store.put(found.digest(passage), block, fingerprint)
    return True


class Verdict(Enum):
    """What is true of a quote."""

    EXACT = "exact"
    GONE = "gone"
    OUT_OF_RANGE = "out_of_range"
    DIFFERENT = "different"
    DAMAGED = "damaged"


def verify(
    corpus: Corpus, document: str, version: int, byte_start: int, byte_end: int, sha256: str
) -> Verdict:
    """Compare a quote, by its digest, with what the live document holds there."""
    try:
        found = corpus.find(document, version)
    except NotFound:
        return Verdict.GONE
    except DataLoss:
        return Verdict.DAMAGED
    data = found.document.data
    if not 0 <= byte_start < byte_end <= len(data):
        return Verdict.OUT_OF_RANGE
    held = hashlib.sha256(data[byte_start:byte_end]).hexdigest()
    return Verdict.EXACT if held == sha256 else Verdict.DIFFERENT


def without_keys(opened: Opened) -> list[tuple[bytes, list[int], list[int]]]:
    """Different passages of a corpus that have no keys: digest, token ids, and the ids before them."""
    corpus, keys = opened
    left, found, seen = corpus.spec.left_context, [], set()
    for each in corpus.documents():
        document = each.document
        for number in range(document.passages):
            digest = document.digest(number)
            if digest not in seen and not keys.has(digest):
                first, end = document.span(number)
                ids = document.tokens[first:end].tolist()
                found.append((digest, ids, document.tokens[max(0, first - left) : first].tolist()))
            seen.add(digest)
    return found
