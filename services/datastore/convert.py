"""Conversion between the contract's messages and the room's own classes."""

from collections.abc import Iterable, Mapping

from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import status_pb2

from palimpsest.api.datastore.v1 import datastore_pb2 as pb
from palimpsest.errors import InvalidArgument, Reason
from palimpsest.paging import fitting
from services.datastore.ingest import AddResult
from services.datastore.search.continuations import (
    Continuation,
    ContinuationQuery,
    ContinuationResults,
    Occurrence,
)
from services.datastore.search.passages import PassageHit, PassageSource, SearchMode, SearchResults
from services.datastore.search.verification import Verdict
from services.datastore.store.catalogue import OpenCorpus, files_size
from services.datastore.store.purge import PurgeReceipt
from services.datastore.store.results import CorpusView, Deleted, LiveDocument

MODES = {
    pb.SEARCH_MODE_UNSPECIFIED: SearchMode.HYBRID,
    pb.SEARCH_MODE_HYBRID: SearchMode.HYBRID,
    pb.SEARCH_MODE_DENSE: SearchMode.DENSE,
    pb.SEARCH_MODE_SPARSE: SearchMode.SPARSE,
}
VERDICTS = {
    Verdict.EXACT: pb.VerifySpansResponse.VERDICT_EXACT,
    Verdict.GONE: pb.VerifySpansResponse.VERDICT_GONE,
    Verdict.OUT_OF_RANGE: pb.VerifySpansResponse.VERDICT_OUT_OF_RANGE,
    Verdict.DIFFERENT: pb.VerifySpansResponse.VERDICT_DIFFERENT,
    Verdict.DAMAGED: pb.VerifySpansResponse.VERDICT_DAMAGED,
}
_LISTED = 1000
"""Documents named in a purge's receipt."""


def timestamp(seconds: float) -> Timestamp:
    """A timestamp from seconds since 1970."""
    found = Timestamp()
    found.FromNanoseconds(int(seconds * 1e9))
    return found


def corpus_message(opened: OpenCorpus, *, sizes: bool = True) -> pb.Corpus:
    """A corpus with its counts. With sizes, the size of every file is read too."""
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
        tombstone_version=view.tombstone_version,
        document_count=documents,
        passage_count=passages,
        token_count=tokens,
        unsealed_tokens=corpus.unsealed_tokens,
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


def document_message(found: LiveDocument) -> pb.Document:
    """A document, without its bytes."""
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


def add_message(result: AddResult, status: status_pb2.Status | None) -> pb.AddDocumentsResponse:
    """The outcome of adding a document; status is its error, if it was refused."""
    message = pb.AddDocumentsResponse(document=result.incoming.document, sha256=result.incoming.sha256)
    if status is not None:
        message.error.CopyFrom(status)
    elif result.added is not None:
        added = result.added
        message.version, message.epoch, message.changed = added.version, added.epoch, added.changed
        message.token_count = result.tokens
    return message


MOST_OWNERS = 100
"""Sources of equal passages in one hit."""


def hit_message(hit: PassageHit) -> pb.Hit:
    """A hit, with the sources of equal passages."""
    return pb.Hit(
        score=hit.score,
        dense_score=hit.dense,
        sparse_score=hit.sparse,
        source=source_message(hit.source),
        text=hit.source.document.text(hit.source.passage),
        owners=[source_message(owner) for owner in hit.owners[:MOST_OWNERS]],
        owner_count=len(hit.owners),
    )


def source_message(source: PassageSource) -> pb.Source:
    """A passage of a document."""
    document, head = source.document, source.part.head(source.row)
    first, end = document.span(source.passage)
    return pb.Source(
        corpus=f"corpora/{source.corpus}",
        document=head.document,
        version=head.version,
        passage=source.passage,
        title=head.title,
        uri=head.uri,
        byte_start=int(document.starts[first]),
        byte_end=int(document.starts[end]),
        char_start=source.part.characters(source.row, source.passage),
        token_start=first,
        token_end=end,
        document_sha256=head.sha256,
    )


def search_message(found: SearchResults) -> pb.SearchResponse:
    """All hits of a search, and the epochs searched."""
    epochs, quarantined = _states(found.views)
    hits = [hit_message(hit) for hit in found.hits]
    fit = fitting(hit.ByteSize() for hit in hits)
    return pb.SearchResponse(
        hits=hits[:fit], epochs=epochs, quarantined_segments=quarantined, omitted=len(hits) - fit
    )


def _states(views: Mapping[str, CorpusView]) -> tuple[dict[str, int], list[str]]:
    """The epochs of the corpora searched, by name, and the quarantined segments left out."""
    quarantined = [f"corpora/{corpus}/{name}" for corpus, view in views.items() for name in view.quarantined]
    return {f"corpora/{corpus}": view.epoch for corpus, view in views.items()}, quarantined


def continuation_query(request: pb.ContinueTextRequest) -> ContinuationQuery:
    """The query of a request, with defaults filled in.

    Raises
    ------
    InvalidArgument
        INVALID_REQUEST: the shortest match is longer than the longest.
    """
    default = ContinuationQuery()
    query = ContinuationQuery(
        request.shortest or min(default.shortest, request.longest or default.shortest),
        request.longest or max(default.longest, request.shortest),
        request.length or default.length,
        request.limit or default.limit,
    )
    if query.shortest > query.longest:
        message = (
            f"shortest is {query.shortest}, more than longest, which is {query.longest}. Swap or omit them."
        )
        raise InvalidArgument.field(Reason.INVALID_REQUEST, "shortest", message)
    return query


def continuations_message(found: ContinuationResults) -> pb.ContinueTextResponse:
    """All continuations, and the epochs searched."""
    epochs, quarantined = _states(found.views)
    continuations = [_continuation_message(each) for each in found.continuations]
    fit = fitting(each.ByteSize() for each in continuations)
    return pb.ContinueTextResponse(
        matched_tokens=found.matched,
        occurrence_count=found.occurrences,
        continuations=continuations[:fit],
        omitted=len(continuations) - fit,
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


def versions(deleted: Iterable[Deleted]) -> list[pb.DocumentVersion]:
    """Deleted versions."""
    return [pb.DocumentVersion(document=each.document, version=each.version) for each in deleted]


def receipt_message(name: str, receipt: PurgeReceipt) -> pb.PurgeReceipt:
    """A purge's receipt."""
    return pb.PurgeReceipt(
        corpus=name,
        purged=[
            pb.DocumentVersion(document=head.document, version=head.version)
            for head in receipt.documents[:_LISTED]
        ],
        purged_count=len(receipt.documents),
        epoch=receipt.epoch,
        shingles=receipt.shingles,
        scanned_bytes=receipt.scanned_bytes,
        unproven=receipt.unproven,
        key_blocks=receipt.key_blocks,
        finish_time=timestamp(receipt.finished),
    )


def min_epochs(requested: dict[str, int], names: Iterable[str]) -> list[int]:
    """The epoch required of each corpus, in order; 0 if none is."""
    return [requested.get(name, 0) for name in names]
