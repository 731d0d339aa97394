"""Several drafts of one continuation: superposed at about the cost of one, verified, as beams, as samples."""

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
