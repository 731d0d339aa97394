"""Choosing tokens by the mixture: which proposed ones are acceptable, and which one comes next."""

import numpy as np
import torch

from palimpsest.candidates.mixture import Mixed
from palimpsest.candidates.settings import NestSettings
from palimpsest.decoding.quoting.spans import relaxed
from palimpsest.engine.requests import Request
from palimpsest.lm.sampling import Choice, Sampling, filtered, uniform

_ACCEPTANCE = 1 << 32
"""Added to a sequence's index: acceptance draws from another random stream than sampling."""


def acceptable(
    mixed: Mixed,
    positions: np.ndarray,
    settings: NestSettings,
    sampling: Sampling,
    index: int,
    generated: int,
) -> np.ndarray:
    """Which proposed tokens are acceptable, each given those before it (paper, section 3.4).

    Parameters
    ----------
    mixed
        The mixture at m >= n rows.
    positions
        int64 [n]: the block's positions that were proposed.
    settings
        With every field filled in.
    sampling
        A temperature makes the decision random.
    index, generated
        The sequence's number, and its tokens so far: they choose the random numbers.

    Returns
    -------
    numpy.ndarray
        bool [n].
    """
    assert settings.gamma is not None
    draws = None
    if sampling.temperature:
        steps = range(generated, generated + len(positions))
        draws = np.array([uniform(sampling.seed, index + _ACCEPTANCE, n) for n in steps])  # (n,)
    best = mixed.best_probability[: len(positions)]  # (n,)
    return relaxed(mixed.of_positions(positions), best, settings.gamma, draws)


def favourite(
    mixed: Mixed, logits: torch.Tensor, row: int, sampling: Sampling, index: int, generated: int
) -> int:
    """The mixture's most probable token at a row, or one drawn from it if there is a temperature.

    Parameters
    ----------
    mixed
        The mixture.
    logits
        float32 [vocabulary]: the model's, at the row.
    row
        Which of the mixture's rows.
    sampling, index, generated
        As in :func:`acceptable`.
    """
    if not sampling.temperature:
        return int(mixed.best[row])
    ids, scores = filtered(logits, sampling)
    by_model = torch.zeros_like(logits)  # (vocabulary,)
    by_model[ids] = torch.softmax(scores, dim=0)
    reached = mixed.dense(row, by_model).double().cumsum(0)  # (vocabulary,)
    draw = uniform(sampling.seed, index, generated) * float(reached[-1])
    return min(int(torch.searchsorted(reached, draw, right=True)), len(reached) - 1)


def choice_of(logits: torch.Tensor, token: int, mixed: Mixed, row: int, request: Request) -> Choice:
    """A token with its log-probability under the model alone, and the alternatives that the request asks for.

    Parameters
    ----------
    logits
        float32 [vocabulary]: the model's, at the row.
    token
        The chosen one.
    mixed, row
        The mixture, and which of its rows.
    request
        For its temperature and its number of alternatives.
    """
    top = request.logprobs or 0
    total = float(torch.logsumexp(logits, 0)) if request.sampling.temperature else float(mixed.total[row])
    best: tuple[tuple[int, float], ...] = ()
    if top:
        values, indices = torch.topk(logits, min(top, logits.numel()))
        best = tuple(
            (int(i), float(v) - total) for i, v in zip(indices.tolist(), values.tolist(), strict=True)
        )
    return Choice(token, float(logits[token]) - total, best)
