"""Between the contract's messages and what the room works with."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import status_pb2

from palimpsest.api.datastore.v1 import datastore_pb2 as pb
from palimpsest.errors import InvalidArgument, Reason
from services.datastore.ingest import Answer
from services.datastore.search.continuations import Continuation, Continued, Occurrence, Wanted
from services.datastore.search.search import Hit, Mode, Place, Searched
from services.datastore.search.sessions import Verdict
from services.datastore.store.catalogue import Opened, files_size
from services.datastore.store.purge import Receipt
from services.datastore.store.results import Found, Gone, View

if TYPE_CHECKING:
    from palimpsest.ngrams import NgramStore

MODES = {
    pb.SEARCH_MODE_UNSPECIFIED: Mode.HYBRID,
    pb.SEARCH_MODE_HYBRID: Mode.HYBRID,
    pb.SEARCH_MODE_DENSE: Mode.DENSE,
    pb.SEARCH_MODE_SPARSE: Mode.SPARSE,
}
VERDICTS = {
    Verdict.EXACT: pb.VerifySpansResponse.VERDICT_EXACT,
    Verdict.GONE: pb.VerifySpansResponse.VERDICT_GONE,
    Verdict.OUT_OF_RANGE: pb.VerifySpansResponse.VERDICT_OUT_OF_RANGE,
    Verdict.DIFFERENT: pb.VerifySpansResponse.VERDICT_DIFFERENT,
    Verdict.DAMAGED: pb.VerifySpansResponse.VERDICT_DAMAGED,
}
_NAMED = 1000
_COVERAGE_ORDER = 3


def timestamp(seconds: float) -> Timestamp:
    """A time from seconds since 1970."""
    found = Timestamp()
    found.FromNanoseconds(int(seconds * 1e9))
    return found


def corpus_message(opened: Opened, *, sizes: bool = True) -> pb.Corpus:
    """A corpus as it stands; with sizes its files are looked through."""
    corpus, keys = opened
    spec, view = corpus.spec, corpus.view()
    with corpus.lock:
        documents = sum(sum(1 for _ in part.live_documents()) for part in view.parts)
        passages = sum(part.liveness.count for part in view.parts)
        tokens = sum(part.live_tokens for part in view.parts)
    message = pb.Corpus(
        name=f"corpora/{spec.corpus}",
        model=spec.model,
        model_fingerprint=spec.model_fingerprint,
        tokenizer_fingerprint=spec.tokenizer_fingerprint,
        encoder=spec.encoder,
        passage_tokens=spec.passage_tokens,
        left_context=spec.left_context,
        key_size=spec.key_size,
        epoch=view.epoch,
        tombstone_version=view.tombstones,
        document_count=documents,
        passage_count=passages,
        token_count=tokens,
        unsealed_tokens=corpus.memory_tokens,
        segment_count=len(corpus.segments),
        quarantined_segments=view.quarantined,
        lost_records=view.lost,
        create_time=timestamp(spec.created),
        labels=spec.labels,
    )
    if sizes:
        message.size_bytes, message.key_bytes = files_size(corpus.folder), keys.size
        message.key_blocks = keys.count()
    calibration = corpus.manifest.calibration
    if calibration:
        fields = dict(calibration)
        fields["model_fingerprint"] = fields.pop("model", "")
        known = pb.Calibration.DESCRIPTOR.fields_by_name
        message.calibration.CopyFrom(pb.Calibration(**{k: v for k, v in fields.items() if k in known}))
    return message


def document_message(found: Found) -> pb.Document:
    """A document without its bytes."""
    document, head = found.document, found.head
    return pb.Document(
        document=head.document,
        version=head.version,
        title=head.title,
        uri=head.uri,
        metadata=head.metadata,
        media_type=head.media_type,
        size_bytes=len(document.data),
        sha256=head.sha256,
        token_count=len(document.tokens),
        passage_count=document.passages,
        create_time=timestamp(head.created),
    )


def answer_message(answer: Answer, status: status_pb2.Status | None) -> pb.AddDocumentsResponse:
    """What became of a document; with the status of the error it was refused with, if it was."""
    message = pb.AddDocumentsResponse(document=answer.arriving.document, sha256=answer.arriving.sha256)
    if status is not None:
        message.error.CopyFrom(status)
    elif answer.added is not None:
        added = answer.added
        message.version, message.epoch, message.changed = added.version, added.epoch, added.changed
        message.token_count = answer.tokens
    return message


def hit_message(hit: Hit) -> pb.Hit:
    """A hit with its sources."""
    return pb.Hit(
        score=hit.score,
        dense_score=hit.dense,
        sparse_score=hit.sparse,
        source=source_message(hit.place),
        text=hit.place.document.text(hit.place.passage),
        owners=[source_message(owner) for owner in hit.owners],
    )


def source_message(place: Place) -> pb.Source:
    """A passage of a document."""
    document, head = place.document, place.part.head(place.row)
    first, end = document.span(place.passage)
    return pb.Source(
        corpus=f"corpora/{place.corpus}",
        document=head.document,
        version=head.version,
        passage=place.passage,
        title=head.title,
        uri=head.uri,
        byte_start=int(document.starts[first]),
        byte_end=int(document.starts[end]),
        char_start=place.part.characters(place.row, place.passage),
        token_start=first,
        token_end=end,
        document_sha256=head.sha256,
    )


def search_message(found: Searched) -> pb.SearchResponse:
    """All hits, and what was searched."""
    epochs, quarantined = _states(found.views)
    hits = [hit_message(hit) for hit in found.hits]
    return pb.SearchResponse(hits=hits, epochs=epochs, quarantined_segments=quarantined)


def _states(views: Mapping[str, View]) -> tuple[dict[str, int], list[str]]:
    """Of the corpora that were looked into: their epochs, and the segments that were left out."""
    quarantined = [f"corpora/{corpus}/{name}" for corpus, view in views.items() for name in view.quarantined]
    return {f"corpora/{corpus}": view.epoch for corpus, view in views.items()}, quarantined


def wanted_continuation(request: pb.ContinueTextRequest) -> Wanted:
    """What is asked for, with its defaults.

    Raises
    ------
    InvalidArgument
        INVALID_REQUEST: the shortest match is longer than the longest.
    """
    wanted = Wanted(
        request.shortest or min(Wanted.shortest, request.longest or Wanted.shortest),
        request.longest or max(Wanted.longest, request.shortest),
        request.length or Wanted.length,
        request.limit or Wanted.limit,
    )
    if wanted.shortest > wanted.longest:
        message = f"The shortest match, {wanted.shortest}, is longer than the longest, {wanted.longest}."
        raise InvalidArgument.field(Reason.INVALID_REQUEST, "shortest", message)
    return wanted


def continued_message(found: Continued) -> pb.ContinueTextResponse:
    """All continuations, and what was looked into."""
    epochs, quarantined = _states(found.views)
    return pb.ContinueTextResponse(
        matched_tokens=found.matched,
        occurrence_count=found.occurrences,
        continuations=[_continuation_message(each) for each in found.continuations],
        epochs=epochs,
        quarantined_segments=quarantined,
    )


def _continuation_message(found: Continuation) -> pb.Continuation:
    return pb.Continuation(
        text=found.text,
        token_ids=found.tokens.tolist(),
        count=found.count,
        occurrences=[_occurrence_message(each) for each in found.occurrences],
    )


def _occurrence_message(found: Occurrence) -> pb.Occurrence:
    document = found.document
    head, starts = document.head, document.starts
    return pb.Occurrence(
        corpus=f"corpora/{found.corpus}",
        document=head.document,
        version=head.version,
        title=head.title,
        uri=head.uri,
        match_byte_start=int(starts[found.start]),
        match_byte_end=int(starts[found.at]),
        continuation_byte_end=int(starts[found.end]),
        continuation_token=found.at,
        document_sha256=head.sha256,
    )


def versions(gone: Iterable[Gone]) -> list[pb.DocumentVersion]:
    """Versions that are gone."""
    return [pb.DocumentVersion(document=g.document, version=g.version) for g in gone]


def receipt_message(name: str, receipt: Receipt) -> pb.PurgeReceipt:
    """A purge's receipt."""
    return pb.PurgeReceipt(
        corpus=name,
        purged=[
            pb.DocumentVersion(document=h.document, version=h.version) for h in receipt.documents[:_NAMED]
        ],
        purged_count=len(receipt.documents),
        epoch=receipt.epoch,
        shingles=receipt.shingles,
        scanned_bytes=receipt.scanned_bytes,
        unproven=receipt.unproven,
        key_blocks=receipt.key_blocks,
        finish_time=timestamp(receipt.finished),
    )


def min_epochs(asked: dict[str, int], names: Iterable[str]) -> list[int]:
    """The epoch asked of each corpus, in order; 0 where none was."""
    return [asked.get(name, 0) for name in names]


def inspected_message(
    store: "NgramStore", ids: list[int], pieces: list[bytes], limit: int
) -> pb.InspectNgramsResponse:
    """What a store says about a text.

    Parameters
    ----------
    store, ids
        Any, and the text's tokens in it.
    pieces
        Bytes of each token; empty if they are not known.
    limit
        Continuations of each order.
    """
    from palimpsest.ngrams import LONGEST

    def text(tokens: list[int]) -> bytes:
        return b"".join(pieces[token] for token in tokens if token < len(pieces))

    response = pb.InspectNgramsResponse(token_count=len(ids), coverage=store.coverage(ids, _COVERAGE_ORDER))
    for order in range(1, min(LONGEST, len(ids) + 1) + 1):
        context = ids[len(ids) - order + 1 :]
        _, total = store.counts(context, np.zeros(0, dtype=np.int32))
        response.orders.add(
            order=order,
            context=context,
            context_text=text(context),
            total=total,
            continuations=[
                pb.InspectNgramsResponse.Continuation(token=token, count=count, text=text([token]))
                for token, count in store.continuations(context, limit)
            ],
        )
    return response
