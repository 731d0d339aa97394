"""Log-probabilities of a given text, without ever holding [tokens, vocabulary]."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from palimpsest.engine.tasks import TaskSteps
from palimpsest.lm.forward import SequenceInput
from palimpsest.lm.protocols import Model
from palimpsest.lm.sampling import Choice

CHUNK = 64
"""Tokens whose logits are held at once."""


@dataclass(frozen=True)
class Scores:
    """One choice per scored token, in order: id, log-probability in nats, alternatives."""

    tokens: tuple[Choice, ...]

    @property
    def total(self) -> float:
        """Sum of the log-probabilities."""
        return sum(token.logprob for token in self.tokens)


def score(model: Model, ids: Sequence[int], top: int = 0, skip: int = 0) -> Scores:
    """Score every token after the first, and after the first ``skip``.

    Parameters
    ----------
    model
        Must not be in use by another thread.
    ids
        The text's tokens.
    top
        How many of the most probable tokens to report at each position.
    skip
        Leading tokens that are context only.
    """
    steps = score_steps(model, ids, top, skip)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def score_steps(model: Model, ids: Sequence[int], top: int, skip: int) -> TaskSteps[Scores]:
    """Score as :func:`score` does, giving control back after each chunk of 64 tokens."""
    cache, first = model.new_cache(), max(1, skip)
    tokens: list[Choice] = []
    try:
        for start in range(0, len(ids) - 1, CHUNK):
            part = ids[start : min(start + CHUNK, len(ids) - 1)]
            wanted = start + len(part) >= first
            logits = model.forward([SequenceInput(cache, part, logits="all" if wanted else "none")])[0].logits
            targets = ids[start + 1 : start + 1 + len(part)]
            if wanted:
                tokens += _choices(logits, targets, top)[max(0, first - start - 1) :]
            yield None
    finally:
        cache.release()
    return Scores(tuple(tokens))


def _choices(logits: torch.Tensor, targets: Sequence[int], top: int) -> list[Choice]:
    """Log-probabilities of targets [tokens] under logits [tokens, vocabulary], with the best alternatives."""
    total = torch.logsumexp(logits, dim=-1)
    index = torch.tensor(list(targets), device=logits.device)
    own = (logits.gather(1, index[:, None])[:, 0] - total).tolist()
    if not top:
        return [Choice(t, value) for t, value in zip(targets, own, strict=True)]
    best = torch.topk(logits, min(top, logits.shape[1]), dim=-1)
    values, indices = (best.values - total[:, None]).tolist(), best.indices.tolist()
    return [
        Choice(t, value, tuple(zip(i, v, strict=True)))
        for t, value, i, v in zip(targets, own, indices, values, strict=True)
    ]
