"""Choosing the next token: greedy, or filtered as transformers' processors do and drawn from a counted random stream.

The random number of token ``t`` of sequence ``i`` is a function of (seed, i, t) alone, so a sequence's draws do
not depend on what runs beside it, nor on whether it was run again.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

try:
    from palimpsest.lm.cpu.operators import log_total
except (ImportError, RuntimeError):
    log_total = None

COLDEST = 1e-20
"""A lower temperature counts as 0: logits divided by it would leave float32."""
_FIRST_LOOK = 1024
"""How many of the most probable tokens are sorted before sorting all."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; the defaults are greedy.

    Parameters
    ----------
    temperature
        0 for greedy: the most probable token, the lowest id on ties. Below ``COLDEST`` it is set to 0.
    top_k
        Only tokens as probable as the k-th most probable; 0 for all.
    top_p
        The fewest most probable tokens whose probability reaches p.
    min_p
        Only tokens at least min_p times as probable as the most probable.
    seed
        Of the random stream.
    repetition_penalty
        Logits of tokens in the prompt or the text are divided by it where positive, multiplied where negative.
    presence_penalty, frequency_penalty
        Subtracted from the logits of generated tokens: once, and once for each time that they came.
    logit_bias
        Pairs of a token id and what is added to its logit.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        if self.temperature < COLDEST:
            object.__setattr__(self, "temperature", 0.0)

    @property
    def adjusts(self) -> bool:
        """Whether it changes logits before temperature: see ``constraints/adjustment.py``."""
        neutral = (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) == (1.0, 0.0, 0.0)
        return not neutral or bool(self.logit_bias)


@dataclass(frozen=True)
class Choice:
    """A chosen token, with the model's own log-probabilities (before temperature), in nats."""

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


def _log_total(logits: torch.Tensor) -> float:
    """Log of the sum of exp of one row of logits."""
    if log_total is None or logits.device.type != "cpu" or logits.numel() % 16:
        return float(torch.logsumexp(logits, 0))
    return float(log_total(logits.numpy().copy()))


def uniform(seed: int, sequence: int, step: int) -> float:
    """The random number in [0, 1) for one token of one sequence: Philox under the key (seed, sequence)."""
    key = np.array([seed & (2**64 - 1), sequence], dtype=np.uint64)
    bits = np.random.Philox(key=key, counter=step)
    return float(np.random.Generator(bits).random())


def filtered(logits: torch.Tensor, sampling: Sampling) -> tuple[torch.Tensor, torch.Tensor]:
    """Apply temperature, top_k, top_p and min_p, in this order, to one row of logits.

    Parameters
    ----------
    logits
        [vocabulary], float32.
    sampling
        Its temperature is above 0.

    Returns
    -------
    tuple of torch.Tensor
        Ids of the tokens that stay, ascending, and their scaled logits.
    """
    scores = logits / sampling.temperature
    if sampling.top_k:
        least = torch.topk(scores, min(sampling.top_k, scores.numel())).values[-1]
        ids = torch.nonzero(scores >= least).flatten()
        scores = scores[ids]
    else:
        ids = torch.arange(scores.numel(), device=scores.device)
    if sampling.top_p < 1.0:
        total = torch.logsumexp(scores, 0)
        for look in (min(_FIRST_LOOK, scores.numel()), scores.numel()):
            best = torch.topk(scores, look)
            before = torch.exp(best.values.double() - total).cumsum(0).roll(1)
            before[0] = 0.0
            inside = int((before < sampling.top_p).sum())
            if inside < look:
                break
        chosen = best.indices[: max(1, inside)].sort().values
        ids, scores = ids[chosen], scores[chosen]
    if sampling.min_p > 0.0:
        chosen = torch.nonzero(scores >= scores.max() + math.log(sampling.min_p)).flatten()
        ids, scores = ids[chosen], scores[chosen]
    return ids, scores


def choose(
    logits: torch.Tensor,
    sampling: Sampling,
    sequence: int,
    step: int,
    top: int = 0,
    adjusted: torch.Tensor | None = None,
) -> Choice:
    """Choose the next token from one row of logits.

    Parameters
    ----------
    logits
        [vocabulary], float32.
    sampling
        How to choose.
    sequence, step
        Which sequence of the request, and how many tokens it has generated so far.
    top
        How many most probable tokens to report beside the chosen one.
    adjusted
        The logits to choose from, [vocabulary], float32, if they are not the model's own: penalised, biased, masked.
        A token with -inf is never chosen; one is finite at least.
    """
    scores = logits if adjusted is None else adjusted
    if sampling.temperature == 0.0:
        index = int(np.argmax(scores.numpy())) if scores.device.type == "cpu" else int(scores.argmax())
    else:
        ids, scores = filtered(scores, sampling)
        if adjusted is not None:
            possible = scores > float("-inf")
            ids, scores = ids[possible], scores[possible]
        reached = torch.exp((scores - scores.max()).double()).cumsum(0)
        draw = uniform(sampling.seed, sequence, step) * float(reached[-1])
        place = int(torch.searchsorted(reached, draw, right=True))
        index = int(ids[min(place, len(ids) - 1)])
    total = _log_total(logits)
    best: tuple[tuple[int, float], ...] = ()
    if top:
        values, indices = torch.topk(logits, min(top, logits.numel()))
        best = tuple(
            (int(i), float(v) - total) for i, v in zip(indices.tolist(), values.tolist(), strict=True)
        )
    return Choice(index, float(logits[index]) - total, best)
