"""Inference: the one place that runs a causal language model."""

from palimpsest.inference.drafts import Draft, DraftDelta, DraftsEnd
from palimpsest.inference.engine import Engine
from palimpsest.inference.forward import Cache, Output, Rows
from palimpsest.inference.handle import Handle
from palimpsest.inference.model import LanguageModel, load_model
from palimpsest.inference.past import How, Past
from palimpsest.inference.quotes import QuotingStats, Source, Span, SpanKind, SpanRevoked
from palimpsest.inference.requests import Delta, Event, Failed, Finish, Finished, PastReady, Request, Started
from palimpsest.inference.sampling import Choice, Sampling
from palimpsest.inference.scoring import Scores, score
from palimpsest.inference.token_bytes import TokenBytes

__all__ = [
    "Cache",
    "Choice",
    "Delta",
    "Draft",
    "DraftDelta",
    "DraftsEnd",
    "Engine",
    "Event",
    "Failed",
    "Finish",
    "Finished",
    "Handle",
    "How",
    "LanguageModel",
    "Output",
    "Past",
    "PastReady",
    "QuotingStats",
    "Request",
    "Rows",
    "Sampling",
    "Scores",
    "Source",
    "Span",
    "SpanKind",
    "SpanRevoked",
    "Started",
    "TokenBytes",
    "load_model",
    "score",
]
