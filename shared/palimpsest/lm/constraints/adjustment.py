"""Penalties, biases and forbidden tokens, as transformers' processors apply them, in their order.

They work on a copy of the logits, before temperature and the filters. Log-probabilities stay the model's own. The
state is a function of one sequence's tokens alone, so it does not depend on what else is in the batch.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from palimpsest.lm.sampling import Sampling

_NEVER = np.float32(-np.inf)


class Adjustment:
    """What one sequence's tokens so far do to the logits of its next one.

    Parameters
    ----------
    sampling
        Its penalties and its ``logit_bias``.
    prompt
        The prompt's tokens. ``repetition_penalty`` and forbidden words see them; presence and frequency penalties
        count generated tokens alone.
    min_tokens
        None of ``ending`` before this many generated tokens.
    ending
        Tokens that end the sequence.
    bad_words
        Sequences of tokens: the last of each is forbidden after the others.
    """

    def __init__(
        self,
        sampling: "Sampling",
        prompt: Sequence[int],
        min_tokens: int = 0,
        ending: Iterable[int] = (),
        bad_words: Iterable[Sequence[int]] = (),
    ) -> None:
        self._sampling, self._min_tokens = sampling, min_tokens
        self._generated = 0
        self._ending = np.array(sorted(ending), dtype=np.int64)
        self._biased = np.array([token for token, _ in sampling.logit_bias], dtype=np.int64)
        self._bias = np.array([bias for _, bias in sampling.logit_bias], dtype=np.float32)
        repeats = sampling.repetition_penalty != 1.0
        self._seen = _Tokens(prompt if repeats else ())
        self._repeats = repeats
        self._counts: Counter[int] = Counter()
        self._counted = sampling.presence_penalty != 0.0 or sampling.frequency_penalty != 0.0
        self._single = np.array(sorted({word[0] for word in bad_words if len(word) == 1}), dtype=np.int64)
        self._longer = _by_first_tokens(word for word in bad_words if len(word) > 1)
        longest = max(self._longer, default=0)
        self._tail = list(prompt[-longest:]) if longest else []
        self._longest = longest

    @property
    def forbids(self) -> bool:
        """Whether some tokens may be out of the question now."""
        return bool(len(self._single) or self._longer) or self._generated < self._min_tokens

    def push(self, token: int) -> None:
        """Take the token that was chosen."""
        self._generated += 1
        if self._repeats:
            self._seen.add(token)
        if self._counted:
            self._counts[token] += 1
        if self._longest:
            self._tail = [*self._tail, token][-self._longest :]

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the adjusted logits of the next token.

        Parameters
        ----------
        logits
            [vocabulary], float32, of any device; not changed.

        Returns
        -------
        torch.Tensor
            [vocabulary], float32, on the CPU. Forbidden tokens have -inf.
        """
        scores = logits.detach().to("cpu", torch.float32).numpy().copy()
        sampling = self._sampling
        if len(self._biased):
            scores[self._biased] += self._bias
        with np.errstate(over="ignore"):
            if self._repeats:
                seen = self._seen.ids
                score, penalty = scores[seen], np.float32(sampling.repetition_penalty)
                scores[seen] = np.where(score < 0, score * penalty, score / penalty)
        if self._counts:
            ids = np.fromiter(self._counts, np.int64, len(self._counts))
            counts = np.fromiter(self._counts.values(), np.float32, len(self._counts))
            scores[ids] -= np.float32(sampling.frequency_penalty) * counts
            scores[ids] -= np.float32(sampling.presence_penalty)
        scores[self._single] = _NEVER
        for count, words in self._longer.items():
            if last := words.get(tuple(self._tail[-count:])):
                scores[last] = _NEVER
        if self._generated < self._min_tokens:
            scores[self._ending] = _NEVER
        return torch.from_numpy(scores)


class _Tokens:
    """Different token ids, in an array that grows."""

    def __init__(self, ids: Sequence[int]) -> None:
        self._array = np.unique(np.asarray(ids, dtype=np.int64))
        self._known = set(self._array.tolist())
        self._count = len(self._array)

    @property
    def ids(self) -> np.ndarray:
        """All of them."""
        return self._array[: self._count]

    def add(self, token: int) -> None:
        """Add one, unless it is there."""
        if token in self._known:
            return
        self._known.add(token)
        if self._count == len(self._array):
            self._array = np.concatenate([self._array, np.empty(max(64, self._count), np.int64)])
        self._array[self._count] = token
        self._count += 1


def _by_first_tokens(words: Iterable[Sequence[int]]) -> dict[int, dict[tuple[int, ...], list[int]]]:
    """Words by how many tokens come before their last one, and by those tokens."""
    found: dict[int, dict[tuple[int, ...], list[int]]] = defaultdict(lambda: defaultdict(list))
    for *first, last in words:
        found[len(first)][tuple(first)].append(last)
    return {count: dict(group) for count, group in found.items()}
