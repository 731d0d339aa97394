"""Quoting while generating: nearest neighbour speculative decoding over a candidate block (NEST)."""

from palimpsest.decoding.quoting.events import QuotingStats, Span, SpanKind, SpanRevoked
from palimpsest.decoding.quoting.request import NestRequest
from palimpsest.decoding.sources import Source

__all__ = ["NestRequest", "QuotingStats", "Source", "Span", "SpanKind", "SpanRevoked"]
