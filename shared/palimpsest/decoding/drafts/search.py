"""What every way to make drafts has in common: drafts that are alive, those that have ended, and the next pass."""

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
    """What drafts are to be made of.

    Parameters
    ----------
    request
        Its ids are those of the prompt that is read; one that was healed lacks its last ones.
    settings
        Checked.
    root
        A draft without any token.
    allowed
        Ids that may come first, ascending, int64; None for all.
    store
        n-grams, if there are any.
    """

    request: Request
    settings: DraftSettings
    root: Hypothesis
    allowed: np.ndarray | None = None
    store: "NgramStore | None" = None

    def is_last(self, hypothesis: Hypothesis) -> bool:
        """Whether the draft may have only one more token."""
        return len(hypothesis.ids) + 1 >= self.request.max_tokens

    def proposed(self, proposal: Proposal) -> Hypothesis:
        """A draft that was not generated, up to where it ends: with its last token, if nothing ends it before."""
        draft = self.root
        for number, token in enumerate(proposal.ids, 1):
            draft = draft.grow(token, 0.0, last=self.is_last(draft) or number == len(proposal.ids))
            if draft.done:
                break
        draft.source = proposal
        return draft

    def first_logits(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits [vocabulary] of the first token, minus infinity for what may not come first."""
        if self.allowed is None:
            return logits
        masked = torch.full_like(logits, -torch.inf)
        index = torch.from_numpy(self.allowed).to(logits.device)
        masked[index] = logits[index]
        return masked


class Search(ABC):
    """Makes drafts, token by token.

    Attributes
    ----------
    live, ended
        Drafts that go on, and complete ones. A draft that ends keeps its place: the others go on with one fewer.
    repeats
        How many were dropped at their end, as another says the same.
    independent
        Whether what one draft has said is never taken back.
    """

    independent = False

    def __init__(self, task: DraftTask, cache: Cache, model: LanguageModel) -> None:
        self.task, self.model, self.cache = task, model, cache
        self.live: list[Hypothesis] = []
        self.ended: list[Hypothesis] = []
        self.repeats = 0

    @abstractmethod
    def begin(self, output: Output) -> None:
        """Choose the first tokens; ``output`` is that of the prompt's last token."""

    @abstractmethod
    def feed(self) -> list[SequenceInput]:
        """What to read next."""

    @abstractmethod
    def take(self, outputs: Sequence[Output]) -> None:
        """Choose the next tokens by what was said of those read."""

    def release(self) -> None:
        """Give all memory back."""
        self.cache.release()

    def sort(self, children: Sequence[Hypothesis]) -> list[Hypothesis]:
        """Set those apart that have ended; one that says the same as an earlier one is dropped."""
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
    """The most probable tokens of one row of logits, the lowest id on ties, with log-probabilities in nats."""
    return rows_best(logits[None], count)[0]


def rows_best(logits: torch.Tensor, count: int) -> list[tuple[list[int], list[float]]]:
    """The most probable tokens of each row [rows, vocabulary]; impossible ones are left out."""
    totals = torch.logsumexp(logits, dim=-1).double().tolist()
    best = zip(largest(logits, count), totals, strict=True)
    return [(ids.tolist(), (values - total).tolist()) for (ids, values), total in best]
