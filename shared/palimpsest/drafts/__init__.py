"""Several drafts of one text for about the cost of one: superposed, verified, beams, samples."""

from palimpsest.drafts.hypotheses import Proposal
from palimpsest.drafts.request import DraftRequest
from palimpsest.drafts.settings import DraftSettings, StopAt, Strategy, Streaming

__all__ = ["DraftRequest", "DraftSettings", "Proposal", "StopAt", "Strategy", "Streaming"]
