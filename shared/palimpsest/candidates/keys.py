"""Keys: the hidden states by which a passage's tokens are found, computed by the model and stored as int8.

The key of a token is the input of the last layer's MLP, after its norm, at the token's predecessor (paper, section
3.1). Its norm carries little information and differs between models by orders of magnitude, so it is scaled to sqrt(d).
Eight bits with one scale for each key find the same neighbours.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from palimpsest.candidates.block import Candidates
from palimpsest.engine.limits import check_ids
from palimpsest.engine.tasks import TaskSteps
from palimpsest.lm.blocks import BLOCK
from palimpsest.lm.forward import Cache, SequenceInput
from palimpsest.lm.model import LanguageModel

if TYPE_CHECKING:
    from palimpsest.engine.engine import Engine

ROWS = 256
"""Maximum number of tokens in one forward pass."""


@dataclass(frozen=True)
class Keys:
    """Keys of n tokens: int8 [n, d], float32 scales [n] (0 where there is no key), float32 squared norms [n]."""

    keys: np.ndarray
    scales: np.ndarray
    norms: np.ndarray


def normalised(states: torch.Tensor) -> torch.Tensor:
    """States [n, d] scaled to norm sqrt(d), float32; a state of zeros stays one."""
    wide = states.float()
    return wide * (math.sqrt(wide.shape[-1]) / wide.norm(dim=-1, keepdim=True).clamp_min(1e-20))


def quantise(states: torch.Tensor) -> Keys:
    """Normalise states [n, d] and round them to int8, one scale each."""
    wide = normalised(states).cpu().numpy()
    scales = np.abs(wide).max(axis=1, initial=0).astype(np.float32) / np.float32(127)
    keys = np.rint(wide / np.maximum(scales, np.float32(1e-30))[:, None]).astype(np.int8)
    norms = np.square(keys.astype(np.float32)).sum(axis=1) * np.square(scales)
    return Keys(keys, scales, norms.astype(np.float32))


def dequantise(keys: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Float32 [n, d] of int8 keys and their scales."""
    return keys.astype(np.float32) * scales[:, None]


def key_steps(
    model: LanguageModel,
    passages: Sequence[tuple[Sequence[int], Sequence[int]]],
    rows: Callable[[], int] = lambda: ROWS,
) -> TaskSteps[list[Keys]]:
    """Compute the keys of passages, yielding after each forward pass.

    Parameters
    ----------
    model
        Used by the calling thread alone.
    passages
        Token ids of each passage, and the ids before it in its document: context, which gets no keys.
    rows
        Returns the maximum number of tokens of the next pass.

    Returns
    -------
    list of Keys
        One for each passage. The first two tokens of a document have no key: the state at a text's first position is
        an outlier, whatever the token.

    Raises
    ------
    FailedPrecondition
        KEY_SITE_UNKNOWN, as :meth:`LanguageModel.forward`.
    """
    found: list[Keys] = []
    for group in _groups(passages):
        readers = [_Reader(model.new_cache(), *passages[n]) for n in group]
        try:
            while waiting := [reader for reader in readers if not reader.done]:
                left, chosen = rows(), []
                for reader in waiting:
                    if left > 0:
                        chosen.append((reader, reader.next(left)))
                        left -= chosen[-1][1].count
                outputs = model.forward([row for _, row in chosen])
                for (reader, _), output in zip(chosen, outputs, strict=True):
                    assert output.retrieval_queries is not None
                    reader.states.append(output.retrieval_queries)
                yield None
            found += [reader.keys(model.hidden_size) for reader in readers]
        finally:
            for reader in readers:
                reader.cache.release()
    return found


class _Reader:
    """A passage while it is being read."""

    def __init__(self, cache: Cache, ids: Sequence[int], left: Sequence[int]) -> None:
        self.cache, self._before, self._count = cache, len(left), len(ids)
        # The state after the last token is the key of no token here.
        self._ids = [int(t) for t in (*left, *ids)][:-1]
        self.states: list[torch.Tensor] = []

    @property
    def done(self) -> bool:
        return self.cache.length >= len(self._ids)

    def next(self, most: int) -> SequenceInput:
        start = self.cache.length
        return SequenceInput(
            self.cache, self._ids[start : start + most], logits="none", retrieval_queries="all"
        )

    def keys(self, size: int) -> Keys:
        states = torch.cat(self.states)[1:] if self.states else torch.zeros(0, size)
        found = quantise(states[max(0, self._before - 2) :])
        missing = self._count - len(found.scales)
        return Keys(
            np.concatenate([np.zeros((missing, size), np.int8), found.keys]),
            np.concatenate([np.zeros(missing, np.float32), found.scales]),
            np.concatenate([np.zeros(missing, np.float32), found.norms]),
        )


def _groups(passages: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[list[int]]:
    """Groups of passages that are read side by side, with about one pass of tokens each."""
    groups: list[list[int]] = []
    room = 0
    for number, (ids, left) in enumerate(passages):
        size = len(ids) + len(left)
        if not groups or size > room:
            groups.append([])
            room = ROWS
        groups[-1].append(number)
        room -= size
    return groups


def key_blocks(passages: Sequence[tuple[Sequence[int], Sequence[int]]]) -> int:
    """Maximum number of cache blocks that :func:`key_steps` takes."""
    sizes = [-(-(len(ids) + len(left)) // BLOCK) for ids, left in passages]
    return max((sum(sizes[n] for n in group) for group in _groups(passages)), default=0)


def submit_keys(
    engine: "Engine", passages: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> "Future[list[Keys]]":
    """Compute keys between an engine's steps; see :func:`key_steps`. Cancel the future to stop.

    Raises
    ------
    InvalidArgument, ResourceExhausted, Unavailable
        As :meth:`Engine.submit_task`.
    """
    for ids, left in passages:
        check_ids(engine.model, (*ids, *left, 0))
    steps = key_steps(engine.model, passages, lambda: engine.prompt_rows)
    longest = max((len(ids) + len(left) for ids, left in passages), default=0)
    return engine.submit_task(steps, key_blocks(passages), longest)


def missing(block: Candidates) -> list[int]:
    """Numbers of the passages in a block whose keys are missing."""
    return np.flatnonzero(~block.present).tolist()


def fill(block: Candidates, numbers: Sequence[int], keys: Sequence[Keys]) -> None:
    """Put computed keys into a block."""
    for number, own in zip(numbers, keys, strict=True):
        block.put_keys(number, own.keys, own.scales, own.norms)


def passages_of(block: Candidates, numbers: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Tokens and left context of passages in a block, as :func:`key_steps` takes them."""
    return [(block.ids(n).tolist(), list(block.left[n])) for n in numbers]
