"""What all searches for drafts have in common: live drafts, finished drafts, and the next forward pass."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from palimpsest.decoding.drafts.hypotheses import Hypothesis, Proposal
from palimpsest.decoding.drafts.mixing import largest
from palimpsest.decoding.drafts.settings import DraftSettings
from palimpsest.engine.requests import Request
from palimpsest.lm.forward import Cache, Output, SequenceInput
from palimpsest.lm.model import LanguageModel

if TYPE_CHECKING:
    from palimpsest.ngrams import NgramStore


@dataclass(frozen=True)
class DraftTask:
    """The inputs of a search for drafts.

    Parameters
    ----------
    request
        The engine's request. A healed prompt lacks its last tokens.
    settings
        Checked.
    root
        The draft without a token.
    allowed
        int64 [n]: ids of possible first tokens, ascending; None for all.
    store
        n-grams, or None.
    """

    request: Request
    settings: DraftSettings
    root: Hypothesis
    allowed: np.ndarray | None = None
    store: "NgramStore | None" = None

    def is_last(self, hypothesis: Hypothesis) -> bool:
        """Whether the draft's next token is its last."""
        return len(hypothesis.ids) + 1 >= self.request.max_tokens

    def proposed(self, proposal: Proposal) -> Hypothesis:
        """A proposal as a draft, cut where the draft ends; its last token ends it otherwise."""
        draft = self.root
        for number, token in enumerate(proposal.ids, 1):
            draft = draft.grow(token, 0.0, last=self.is_last(draft) or number == len(proposal.ids))
            if draft.done:
                break
        draft.source = proposal
        return draft

    def first_logits(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits [vocabulary] of the first token, minus infinity for tokens that may not come first."""
        if self.allowed is None:
            return logits
        masked = torch.full_like(logits, -torch.inf)
        index = torch.from_numpy(self.allowed).to(logits.device)
        masked[index] = logits[index]
        return masked


class Search(ABC):
    """Makes drafts token by token.

    Attributes
    ----------
    live, ended
        Drafts that grow, and finished ones. Each finished draft leaves one fewer to the search.
    repeats
        Drafts dropped at their end because another one has the same text.
    independent
        Whether a draft's text is never rewritten.
    """

    independent = False

    def __init__(self, task: DraftTask, cache: Cache, model: LanguageModel) -> None:
        self.task, self.model, self.cache = task, model, cache
        self.live: list[Hypothesis] = []
        self.ended: list[Hypothesis] = []
        self.repeats = 0

    @abstractmethod
    def begin(self, output: Output) -> None:
        """Choose the first tokens from the output of the prompt's last token."""

    @abstractmethod
    def feed(self) -> list[SequenceInput]:
        """Rows of the next step."""

    @abstractmethod
    def take(self, outputs: Sequence[Output]) -> None:
        """Choose the next tokens from the outputs of the last rows."""

    def release(self) -> None:
        """Give all memory back."""
        self.cache.release()

    def sort(self, children: Sequence[Hypothesis]) -> list[Hypothesis]:
        """Move finished drafts to ``ended``, without duplicates; returns the others."""
        texts = {h.text.text for h in self.ended}
        going = []
        for child in children:
            if not child.done:
                going.append(child)
            elif child.text.text not in texts:
                texts.add(child.text.text)
                self.ended.append(child)
            else:
                self.repeats += 1
        return going


def best_first(logits: torch.Tensor, count: int) -> tuple[list[int], list[float]]:
    """The most probable tokens of a row of logits [vocabulary], lowest id on ties, with log-probabilities in nats."""
    return rows_best(logits[None], count)[0]


def rows_best(logits: torch.Tensor, count: int) -> list[tuple[list[int], list[float]]]:
    """The most probable tokens of each row of logits [rows, vocabulary]; impossible tokens are left out."""
    totals = torch.logsumexp(logits, dim=-1).double().tolist()
    best = zip(largest(logits, count), totals, strict=True)
    return [(ids.tolist(), (values - total).tolist()) for (ids, values), total in best]
