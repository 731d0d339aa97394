"""Quoting as a strategy of the engine."""

from dataclasses import dataclass
from typing import Literal

from palimpsest.candidates.settings import Mode
from palimpsest.decoding.quoting.quotable import Quotable
from palimpsest.decoding.quoting.sequence import Quoting
from palimpsest.engine.limits import check_ids
from palimpsest.engine.requests import Request
from palimpsest.engine.sequence import SequenceState
from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.lm.forward import Cache
from palimpsest.lm.model import LanguageModel


@dataclass(eq=False)
class NestRequest(Quotable):
    """Quote while generating: ``Request(ids, strategy=NestRequest(candidates, NestSettings()))``.

    Passages without keys are not searched; compute missing keys first (:mod:`palimpsest.candidates.keys`).
    LOSSLESS needs no keys: it proposes by the last tokens alone.

    Parameters are those of :class:`Quotable`.
    """

    width = 1

    @property
    def needs(self) -> Literal["logits", "retrieval_queries"]:
        """Retrieval queries, if neighbours are searched."""
        return "retrieval_queries" if self.searches else "logits"

    def check(self, model: LanguageModel, request: Request) -> None:
        """Refuse a request that can never work, and build the index of keys.

        Raises
        ------
        InvalidArgument
            A setting is out of range, or the candidates belong to another model.
        FailedPrecondition
            The model's cache cannot be cropped, or its last MLP was not found.
        """
        self.settings.check()
        block = self.candidates
        block.check()
        if len(block):
            check_ids(model, [int(block.tokens.max()), 0])
            if block.keys.shape[1] != model.hidden_size:
                raise InvalidArgument(
                    Reason.CANDIDATES_INVALID,
                    f"The keys have {block.keys.shape[1]} elements; this model's have {model.hidden_size}.",
                )
        if not model.new_cache().can_crop:
            raise FailedPrecondition(
                Reason.MODEL_INVALID,
                "This model's cache cannot be cropped, which quoting needs. Use a model with full attention.",
            )
        if self.searches:
            model.check_retrieval_queries()
        self.index(model)

    def start(self, request: Request, index: int, cache: Cache, model: LanguageModel) -> SequenceState:
        """One of the request's sequences."""
        if self.settings.mode is Mode.LM:
            return SequenceState(request, index, cache, model)
        return Quoting(self, request, index, cache, model)
