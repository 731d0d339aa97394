"""The mixture of the model's distribution and that of the tokens after its nearest neighbours (paper, section 3.2).

::

    s_i    = -|q - k_i|^2                                     q, k_i: states of norm sqrt(d)
    w_i    ~ exp(mu s_i / sqrt(d) + beta log(score_p / best)) over the r nearest, p the passage of i
    p_kNN  (v) = sum of w_i over neighbours whose value is v
    ratio  = d2(nearest) / d2(r-th nearest)                   low: the nearest stands out
    weight = sigmoid((ratio - alpha) / tau)                   the model's
    p_M    = weight p_LM + (1 - weight) p_kNN

The search is exact: one matrix product for all positions of a step. Only live keys count as neighbours, so a small
store does not look like a confident one.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from palimpsest.candidates.block import Candidates
from palimpsest.candidates.keys import dequantise, normalised
from palimpsest.candidates.settings import Mode, NestSettings

LEAST_KEYS = 8
"""With fewer live keys the mixture is the model alone."""


class KeyIndex:
    """A block's keys, ready for search; immutable, so sequences may share it.

    Parameters
    ----------
    block
        The candidates; passages without keys are not searched.
    special
        Token ids that are never proposed.
    device
        Where the search runs.

    Attributes
    ----------
    positions
        int64 [K]: each key's position in the block.
    values
        int64 [T]: for each token of the block, its index in :attr:`vocabulary`.
    vocabulary
        int64 [U]: the block's distinct token ids, ascending.
    prior
        float32 [K]: log of the passage's score over the best score.
    """

    def __init__(
        self, block: Candidates, special: Collection[int] = (), device: str | torch.device = "cpu"
    ) -> None:
        self.block = block
        forbidden = np.isin(block.tokens, np.fromiter(special, dtype=np.int64, count=len(special)))
        self.allowed = ~forbidden
        position = np.flatnonzero((block.scales > 0) & ~forbidden)
        vocabulary, values = np.unique(block.tokens, return_inverse=True)
        scores = np.array([p.score for p in block.passages], dtype=np.float64)
        prior = (
            np.log(scores / scores.max(initial=1e-300))[block.passage_of()] if len(scores) else np.zeros(0)
        )
        self.size = block.keys.shape[1]
        keys = dequantise(block.keys[position], block.scales[position])
        self.keys = torch.from_numpy(keys).to(device)
        self.norms = torch.from_numpy(block.norms[position]).to(device)
        self.positions = torch.from_numpy(position).to(device)
        self.vocabulary = torch.from_numpy(vocabulary.astype(np.int64)).to(device)
        self.values = torch.from_numpy(values.astype(np.int64)).to(device)
        self.key_values = self.values[self.positions]
        self.prior = torch.from_numpy(prior[position].astype(np.float32)).to(device)
        self.number = np.full(len(block), -1, dtype=np.int64)
        self.number[position] = np.arange(len(position))

    def __len__(self) -> int:
        """How many keys there are."""
        return len(self.positions)


@dataclass
class Neighbours:
    """The r nearest live keys of m states.

    Attributes
    ----------
    keys
        int64 [m, r]: their indices, nearest first.
    distances
        float32 [m, r]: squared distances.
    """

    keys: torch.Tensor
    distances: torch.Tensor

    def ratio(self) -> torch.Tensor:
        """Distance of the nearest over that of the farthest: float32 [m] in 0..1; 1 where all are equally near."""
        last = self.distances[:, -1]
        return torch.where(last > 0, self.distances[:, 0] / last.clamp_min(1e-30), torch.ones_like(last))


def search(index: KeyIndex, states: torch.Tensor, live: torch.Tensor, r: int) -> Neighbours | None:
    """Find the nearest live keys of states.

    Parameters
    ----------
    index
        With K keys of d elements.
    states
        float [m, d], of any norm: they are scaled like keys.
    live
        bool [K].
    r
        Number of neighbours; fewer if fewer are live.

    Returns
    -------
    Neighbours or None
        None where fewer than 8 keys are live.
    """
    count = int(live.sum())
    if count < LEAST_KEYS:
        return None
    queries = normalised(states)
    # |q - k|^2 = d + |k|^2 - 2 q.k  # (m, K)
    squared = torch.addmm(index.norms + index.size, queries, index.keys.T, alpha=-2.0).clamp_min_(0.0)
    if count < len(live):
        squared.masked_fill_(~live, math.inf)
    best = torch.topk(squared, min(r, count), largest=False)
    return Neighbours(best.indices, best.values)


class Mixed:
    """The mixture at m positions.

    Parameters
    ----------
    index, neighbours
        The keys, and the neighbours found; None for the model alone.
    logits
        float32 [m, vocabulary], divided by the temperature if there is one.
    settings
        With every field filled in.

    Attributes
    ----------
    weight, ratio
        float32 numpy [m]: the model's weight, and the distance ratio.
    """

    def __init__(
        self, index: KeyIndex, neighbours: Neighbours | None, logits: torch.Tensor, settings: NestSettings
    ) -> None:
        self._index, self._logits, count = index, logits, logits.shape[0]
        self.neighbours = neighbours
        if neighbours is None:
            self.ratio, self.weight = np.ones(count, np.float32), np.ones(count, np.float32)
            return
        assert settings.mu is not None
        assert settings.alpha is not None
        assert settings.tau is not None
        scores = neighbours.distances * (-settings.mu / math.sqrt(index.size))
        if settings.beta:
            scores = scores + settings.beta * index.prior[neighbours.keys]
        self.neighbour_weights = torch.softmax(scores, dim=-1)  # (m, r)
        found = torch.zeros(count, len(index.vocabulary), device=logits.device)  # (m, U)
        found.scatter_add_(1, index.key_values[neighbours.keys], self.neighbour_weights)
        ratio = neighbours.ratio()
        if settings.mode is Mode.KNN_LM:
            weight = torch.full_like(ratio, settings.lm_weight)
        else:
            weight = torch.sigmoid((ratio - settings.alpha) / settings.tau)
        by_model = torch.exp(logits[:, index.vocabulary] - self.total[:, None])  # (m, U)
        self._found, self._mixed = found, torch.lerp(found, by_model, weight[:, None])
        self.ratio, self.weight = ratio.cpu().numpy(), weight.cpu().numpy()

    @cached_property
    def total(self) -> torch.Tensor:
        """Log of the sum of exp of each row of logits: float32 [m]."""
        return torch.logsumexp(self._logits, dim=-1)

    @cached_property
    def _best(self) -> tuple[np.ndarray, np.ndarray]:
        """Tokens outside the block get the model's share only, so its best token stands for them all."""
        top = self._logits.argmax(dim=-1)
        top_p = torch.exp(self._logits.gather(1, top[:, None])[:, 0] - self.total)
        if self.neighbours is None:
            return top.cpu().numpy(), top_p.cpu().numpy()
        top_p = top_p * torch.from_numpy(self.weight).to(top_p)
        inside = self._mixed.max(dim=-1)
        best = torch.where(inside.values >= top_p, self._index.vocabulary[inside.indices], top)
        return best.cpu().numpy(), torch.maximum(inside.values, top_p).cpu().numpy()

    @property
    def best(self) -> np.ndarray:
        """The mixture's most probable token: int64 [m]."""
        return self._best[0]

    @property
    def best_probability(self) -> np.ndarray:
        """Its probability: float32 [m]."""
        return self._best[1]

    def of_positions(self, positions: np.ndarray) -> np.ndarray:
        """Probability at row n of the block's token at ``positions[n]``: float32 [len(positions)]."""
        rows = torch.arange(len(positions), device=self._logits.device)
        if self.neighbours is None:
            ids = torch.from_numpy(self._index.block.tokens[positions].astype(np.int64)).to(
                self._logits.device
            )
            return torch.exp(self._logits[rows, ids] - self.total[: len(positions)]).cpu().numpy()
        values = self._index.values[torch.from_numpy(positions).to(self._logits.device)]
        return self._mixed[rows, values].cpu().numpy()

    def of_tokens(self, ids: torch.Tensor) -> torch.Tensor:
        """Probability at row n of the token ``ids[n]``: float32 [m]."""
        by_model = torch.exp(self._logits.gather(1, ids[:, None])[:, 0] - self.total)
        if self.neighbours is None:
            return by_model
        weight = torch.from_numpy(self.weight).to(by_model)
        known = self._index.vocabulary
        slot = torch.searchsorted(known, ids).clamp_max(len(known) - 1)
        found = self._found.gather(1, slot[:, None])[:, 0] * (known[slot] == ids)
        return weight * by_model + (1 - weight) * found

    def dense(self, row: int, by_model: torch.Tensor) -> torch.Tensor:
        """The mixture over the whole vocabulary at one row, given the model's probabilities: float32 [vocabulary]."""
        if self.neighbours is None:
            return by_model
        mixed = by_model * float(self.weight[row])
        mixed[self._index.vocabulary] += (1 - float(self.weight[row])) * self._found[row]
        return mixed

    def carrier(self, row: int, token: int, usable: np.ndarray) -> int:
        """Of the neighbours with this token, the usable position with the largest weight; -1 if there is none.

        ``usable`` is bool [T].
        """
        if self.neighbours is None:
            return -1
        keys = self.neighbours.keys[row]
        weights = self.neighbour_weights[row] * (
            self._index.vocabulary[self._index.key_values[keys]] == token
        )
        positions = self._index.positions[keys].cpu().numpy()
        weights = weights.cpu().numpy() * usable[positions]
        slot = int(weights.argmax())
        return int(positions[slot]) if weights[slot] > 0 else -1

    def nearest(self, row: int) -> int:
        """The position with the largest neighbour weight; -1 without neighbours."""
        if self.neighbours is None:
            return -1
        return int(self._index.positions[self.neighbours.keys[row][self.neighbour_weights[row].argmax()]])
