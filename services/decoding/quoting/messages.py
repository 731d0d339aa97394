"""Spans, their sources and the statistics of quoting, as the contract's messages."""

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.decoding.quoting import QuotingStats, Span, SpanKind, SpanRevoked
from palimpsest.decoding.sources import Source
from services.decoding.convert import GENERATE, Call

_KINDS = {SpanKind.SPAN: pb.QuotedSpan.KIND_SPAN, SpanKind.TOKEN_MATCH: pb.QuotedSpan.KIND_TOKEN_MATCH}


def span_message(span: Span) -> pb.QuotedSpan:
    """One span."""
    return pb.QuotedSpan(
        index=span.index,
        span_id=span.id,
        kind=_KINDS[span.kind],
        range=_range(span),
        token_start=span.token_start,
        token_end=span.token_end,
        sources=[source_message(source) for source in span.sources],
        sha256=span.sha256,
        lm_weight=span.lm_weight,
        ratio=span.ratio,
        proposed_tokens=span.proposed,
        accepted_tokens=span.accepted,
        weak=span.weak,
    )


@GENERATE.converts(Span)
def _span(event: Span, call: Call) -> pb.GenerateResponse:
    return pb.GenerateResponse(span=span_message(event))


@GENERATE.converts(SpanRevoked)
def _revoked(event: SpanRevoked, call: Call) -> pb.GenerateResponse:
    return pb.GenerateResponse(
        revoked=pb.SpanRevoked(
            index=event.index, span_id=event.id, byte_start=event.byte_start, byte_end=event.byte_end
        )
    )


def statistics_message(did: QuotingStats) -> pb.NestStatistics:
    """Statistics of one sequence, without those of retrieval, which the engine does not know."""
    tokens = max(1, did.tokens)
    return pb.NestStatistics(
        lm_forwards=did.lm_forwards,
        lm_positions=did.lm_positions,
        spans_proposed=did.spans_proposed,
        spans_accepted=did.spans_accepted,
        proposed_tokens=did.proposed_tokens,
        accepted_tokens=did.accepted_tokens,
        searches=did.searches,
        documents=did.documents,
        span_token_ratio=did.span_tokens / tokens,
        match_token_ratio=did.match_tokens / tokens,
        dropped_spans=did.dropped,
        revoked_spans=did.revoked,
        forward_seconds=did.forward_seconds,
        mixing_seconds=did.search_seconds,
    )


def _range(span: Span | Source) -> pb.TextRange:
    return pb.TextRange(
        byte_start=span.byte_start,
        byte_end=span.byte_end,
        char_start=span.char_start,
        char_end=span.char_end,
    )


def source_message(source: Source) -> pb.QuoteSource:
    """One place that text was taken from."""
    return pb.QuoteSource(
        corpus=source.corpus,
        document=source.document,
        version=source.version,
        passage=source.passage,
        token_start=source.token_start,
        token_end=source.token_end,
        range=_range(source),
        title=source.title,
        uri=source.uri,
        document_sha256=source.document_sha256,
        passage_score=source.score,
        prefix=source.prefix,
        suffix=source.suffix,
    )
