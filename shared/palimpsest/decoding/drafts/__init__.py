"""Several drafts of one text for about the cost of one: superposed, verified, beams, samples."""

from palimpsest.decoding.drafts.events import Draft, DraftDelta, DraftsEnd
from palimpsest.decoding.drafts.hypotheses import Proposal
from palimpsest.decoding.drafts.request import DraftRequest
from palimpsest.decoding.drafts.settings import DraftSettings, DraftStrategy, StopAt, Streaming

__all__ = [
    "Draft",
    "DraftDelta",
    "DraftRequest",
    "DraftSettings",
    "DraftStrategy",
    "DraftsEnd",
    "Proposal",
    "StopAt",
    "Streaming",
]
