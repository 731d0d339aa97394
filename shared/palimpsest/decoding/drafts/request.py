"""Several drafts of one prompt, as a strategy of the engine: ``Request(ids, strategy=DraftRequest(settings))``."""

from dataclasses import dataclass
from typing import Literal

from palimpsest.decoding.drafts.sequence import DraftPlan, Drafts
from palimpsest.decoding.drafts.settings import LONGEST, DraftStrategy
from palimpsest.engine.requests import Request
from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.lm.forward import Cache
from palimpsest.lm.model import LanguageModel

WINDOW = 16
"""Tokens at the prompt's end whose contexts are looked up in an n-gram store, to see whether it covers such text."""


@dataclass(eq=False)
class DraftRequest(DraftPlan):
    """Make several drafts of a request's prompt.

    Parameters are those of :class:`DraftPlan`.
    """

    @property
    def needs(self) -> Literal["logits", "retrieval_queries"]:
        """Logits: drafts search no neighbours."""
        return "logits"

    @property
    def width(self) -> int:
        """Rows of the batch that the drafts may take: one while they are superposed, otherwise one for each."""
        if self.settings.strategy is DraftStrategy.SUPERPOSED and not self.settings.exact:
            return 1
        return self.settings.made + len(self.extra)

    def check(self, model: LanguageModel, request: Request) -> None:
        """Refuse a request that can never work.

        Raises
        ------
        InvalidArgument
            DRAFT_SETTINGS_INVALID: a setting is out of range, or does not apply to the strategy.
        FailedPrecondition
            The model's cache cannot be cropped.
        """
        self.settings.check()
        for field, value, most in (("n", request.n, 1), ("max_tokens", request.max_tokens, LONGEST)):
            if not 1 <= value <= most:
                raise InvalidArgument.field(
                    Reason.DRAFT_SETTINGS_INVALID,
                    field,
                    f"{field} is {value}; with drafts it is at most {most}"
                    + (", as k says how many there are." if field == "n" else "."),
                )
        if self.extra and self.settings.strategy is not DraftStrategy.SUPERPOSED_VERIFIED:
            raise InvalidArgument.field(
                Reason.DRAFT_SETTINGS_INVALID,
                "settings.strategy",
                "Only SUPERPOSED_VERIFIED ranks quotations. Choose it, or leave nest unset.",
            )
        crops = self.settings.verifies or self.settings.reset_every
        if crops and not model.new_cache().can_crop:
            raise FailedPrecondition(
                Reason.MODEL_INVALID,
                "This model's cache cannot be cropped, which these drafts need. Use a model with full attention.",
            )

    def start(self, request: Request, index: int, cache: Cache, model: LanguageModel) -> Drafts:
        """The request's drafts, as one sequence of the batch."""
        return Drafts(self, request, cache, model)
