"""What a model thinks of each token of given sequences (teacher forcing): the ground of most metrics."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from palimpsest.errors import FailedPrecondition, Reason
from palimpsest.progress import NullProgress, Progress
from services.unlearning.metrics.items import Continuation
from services.unlearning.metrics.passes import padded, reading

_POSITIONS = 256
"""Positions whose distribution over the vocabulary is in memory a second time, as float32."""

_NEVER = -1e4
"""A log-probability of which the probability is 0 in float32, and the square finite."""


@dataclass(frozen=True, eq=False)
class TokenScores:
    """Scores of the counted tokens of one sequence.

    Attributes
    ----------
    logprobs
        float64 [tokens]: natural log-probability of each token given those before it.
    correct
        bool [tokens]: whether it is the most probable one.
    mean, deviation
        float64 [tokens]: mean and standard deviation of the log-probability of a token drawn from the model's own
        distribution at that position (Min-K%++, equation 3).
    """

    logprobs: np.ndarray
    correct: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray

    @property
    def nll(self) -> float:
        """Mean negative log-probability, in nats a token."""
        return float(-self.logprobs.mean())

    @property
    def probability(self) -> float:
        """Geometric mean of the tokens' probabilities, 0 to 1."""
        return float(np.exp(self.logprobs.mean()))


def token_scores(
    module: nn.Module, sequences: Sequence[Continuation], *, progress: Progress | None = None
) -> list[TokenScores]:
    """Score sequences, in the order in which they are given.

    Parameters
    ----------
    module
        A causal LM of transformers.
    sequences
        What is scored.
    progress
        Asked before every pass whether to go on.

    Raises
    ------
    InvalidArgument
        PROMPT_TOO_LONG.
    FailedPrecondition
        METRIC_NOT_FINITE: the model puts out NaN.
    """
    progress = progress or NullProgress()
    found: dict[int, TokenScores] = {}
    with reading(module):
        for rows in padded(module, [sequence.ids for sequence in sequences]):
            progress.check()
            logits = module(input_ids=rows.ids, attention_mask=rows.attention, use_cache=False).logits
            of_rows = [sequences[number] for number in rows.numbers]
            found.update(zip(rows.numbers, read(logits, of_rows), strict=True))
    return [found[number] for number in range(len(sequences))]


def read(logits: Tensor, sequences: Sequence[Continuation]) -> list[TokenScores]:
    """Read the scores of sequences off the logits of one pass.

    Parameters
    ----------
    logits
        [rows, tokens, vocabulary], a row for each sequence, padded on the right.
    sequences
        What the rows are.

    Raises
    ------
    FailedPrecondition
        METRIC_NOT_FINITE.
    """
    return [_of(row[s.start - 1 : len(s.ids) - 1], s) for row, s in zip(logits, sequences, strict=True)]


def _of(logits: Tensor, sequence: Continuation) -> TokenScores:
    """Score one sequence; ``logits`` [counted tokens, vocabulary] predict its counted tokens."""
    truth = torch.tensor(sequence.ids[sequence.start :], device=logits.device)
    parts = [
        _moments(logits[first : first + _POSITIONS].float(), truth[first : first + _POSITIONS])
        for first in range(0, len(truth), _POSITIONS)
    ]
    logprobs, mean, deviation = (
        torch.cat([part[of] for part in parts]).double().cpu().numpy() for of in range(3)
    )
    if np.isnan(logprobs).any():
        message = (
            "The model puts out NaN, so there is nothing to measure. Its weights are destroyed; go back to an earlier "
            "version of it."
        )
        raise FailedPrecondition(Reason.METRIC_NOT_FINITE, message, metadata={"item": sequence.id})
    return TokenScores(logprobs, (logits.argmax(-1) == truth).cpu().numpy(), mean, deviation)


def _moments(logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    logp = logits.log_softmax(-1)  # [tokens, vocabulary]
    p = logp.exp()
    finite = logp.clamp_min(_NEVER)  # a token that is ruled out adds 0, not 0 * -inf
    mean = (p * finite).sum(-1)
    variance = (p * (finite - mean[:, None]).square()).sum(-1)
    return logp.gather(-1, truth[:, None])[:, 0], mean, variance.sqrt()
