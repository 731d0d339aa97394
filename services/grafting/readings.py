"""What a grafted pass says of a target: rank, probability, recovery, and distance from both models."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.models.tokenizers import failing_as_model

_SMALLEST_GAP = 1e-6
"""Difference between the two models, in nats, below which a recovery would divide noise by noise."""


@dataclass(frozen=True)
class Reading:
    """What one pass says of a target.

    Parameters
    ----------
    logprob
        Log-probability of all target tokens, each after those before it, in nats.
    probability
        Its exponential.
    rank
        Of the first target token: 1, and one more for each token that is more probable, and for each equally probable
        one with a smaller id.
    ties
        Other tokens exactly as probable as the first target token.
    token_logprobs
        One for each target token.
    top, top_probability
        The most probable token after the prompt, and how probable it is.
    recovery
        Share of the way from the base's log-probability to the donor's; None where those are the same.
    kl_base, kl_donor
        Kullback-Leibler divergence of this pass from each model, in nats, after the prompt: the model's mean of its
        log-probability minus this pass's.
    """

    logprob: float
    probability: float
    rank: int
    ties: int
    token_logprobs: tuple[float, ...]
    top: int
    top_probability: float
    recovery: float | None = None
    kl_base: float = 0.0
    kl_donor: float = 0.0


class Reader:
    """Reads passes of one prompt and target.

    Parameters
    ----------
    target
        Token ids, at least one.
    base, donor
        Logits of the two models' own passes, [outputs, vocabulary] each: first those after the prompt, then those after
        each target token but the last.
    """

    def __init__(self, target: tuple[int, ...], base: torch.Tensor, donor: torch.Tensor) -> None:
        self._target = torch.tensor(target, device=base.device)
        own = torch.stack([torch.log_softmax(logits[0].double(), -1) for logits in (base, donor)])
        self._means = own.exp()  # [2, vocabulary]
        self._never = self._means == 0
        # A token that never comes adds nothing, whatever its log-probability.
        finite = own.masked_fill(self._never, 0.0)
        self._negentropies = torch.stack([(self._means @ each)[n] for n, each in enumerate(finite)])
        self._ends = tuple(self._reading(logits)[0].logprob for logits in (base, donor))
        self.base, self.donor = self.read(base), self.read(donor)

    def read(self, logits: torch.Tensor) -> Reading:
        """Read a pass: [outputs, vocabulary]."""
        own, here = self._reading(logits)
        gap = self._ends[1] - self._ends[0]
        recovery = (own.logprob - self._ends[0]) / gap if abs(gap) > _SMALLEST_GAP else None
        cross = self._means @ here
        if not bool(torch.isfinite(cross).all()):  # 0 times -inf is NaN, and should be 0
            cross = (self._means * here.expand_as(self._means).masked_fill(self._never, 0.0)).sum(-1)
        base, donor = ((self._negentropies - cross).clamp(min=0.0)).tolist()
        return replace(own, recovery=recovery, kl_base=base, kl_donor=donor)

    def _reading(self, logits: torch.Tensor) -> tuple[Reading, torch.Tensor]:
        """Read the target alone; also returns the log-probabilities after the prompt, [vocabulary]."""
        logprobs = torch.log_softmax(logits.double(), -1)
        each = logprobs.gather(-1, self._target[:, None])[:, 0]
        first, token = logits[0], int(self._target[0])
        equal = (first == first[token]).nonzero()[:, 0]
        above = int(torch.count_nonzero(first > first[token])) + int((equal < token).sum())
        total, top = float(each.sum()), int(first.argmax())
        reading = Reading(
            logprob=total,
            probability=math.exp(total),
            rank=1 + above,
            ties=len(equal) - 1,
            token_logprobs=tuple(each.tolist()),
            top=top,
            top_probability=math.exp(float(logprobs[0, top])),
        )
        return reading, logprobs[0]


def target_ids(tokenizer: Any, text: str, field: str = "target") -> tuple[int, ...]:
    """Token ids of a target, as it continues a prompt: without special tokens.

    Raises
    ------
    InvalidArgument
        TARGET_EMPTY.
    FailedPrecondition
        MODEL_INVALID: the tokenizer fails on it.
    """
    with failing_as_model():
        ids = tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else ()
    if not ids:
        raise InvalidArgument.field(
            Reason.TARGET_EMPTY,
            field,
            f"{field} is empty; send the continuation to look for, with its leading space.",
        )
    return ids
