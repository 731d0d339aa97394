"""Several drafts of one prompt, as a strategy of the engine: ``Request(ids, strategy=DraftRequest(settings))``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from palimpsest.decoding.drafts.hypotheses import Proposal
from palimpsest.decoding.drafts.sequence import Drafts
from palimpsest.decoding.drafts.settings import LONGEST, DraftSettings, DraftStrategy
from palimpsest.engine.requests import Request
from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.lm.forward import Cache
from palimpsest.lm.generic import ModuleCache
from palimpsest.lm.model import LanguageModel

if TYPE_CHECKING:
    from palimpsest.ngrams import NgramStore

WINDOW = 16
"""Tokens at the prompt's end whose contexts are looked up in an n-gram store, to see whether it covers such text."""


@dataclass(eq=False)
class DraftRequest:
    """Make several drafts of a request's prompt.

    Parameters
    ----------
    settings
        How the drafts are made.
    store
        n-grams over the model's tokenizer, for superposed drafts.
    healed
        Bytes removed from the prompt's end. Every draft begins with them; they are not part of its text.
    allowed
        int64 [n]: ids of the tokens that begin with these bytes, ascending; None if nothing was removed.
    extra
        Drafts that were not generated, such as quotations; they are verified with the others.
    """

    settings: DraftSettings
    store: "NgramStore | None" = None
    healed: bytes = b""
    allowed: np.ndarray | None = None
    extra: Sequence[Proposal] = ()

    @property
    def retrieval_queries(self) -> Literal["none", "last"]:
        """Drafts need no retrieval queries."""
        return "none"

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
            The model's cache cannot be rolled back.
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
        cache, goes_back = model.new_cache(), self.settings.verifies or self.settings.reset_every
        if goes_back and isinstance(cache, ModuleCache) and cache.state is not None and not cache.can_load:
            raise FailedPrecondition(
                Reason.MODEL_INVALID,
                "This model's cache cannot be rolled back, which these drafts need. Use a model with full attention.",
            )

    def start(self, request: Request, index: int, cache: Cache, model: LanguageModel) -> Drafts:
        """The request's drafts, as one sequence of the batch."""
        return Drafts(self, request, cache, model)
