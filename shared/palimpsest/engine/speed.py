"""How long prefilling takes on this engine, learnt from the pieces it has prefilled."""

import time
from collections.abc import Sequence

import torch

from palimpsest.engine.tasks import Pieces
from palimpsest.lm.blocks import BLOCK, PagedCache
from palimpsest.lm.forward import Output, SequenceInput
from palimpsest.lm.model import LanguageModel

PROBE_ROWS, PROBE_DEPTH = 64, 1024
"""Tokens of a measured piece, and where the second one stands."""

_MEMORY = 0.95
"""Weight that earlier pieces keep with each new one: what counts is the last few dozen."""

_TRUST = 0.002
"""Weight of the first measurement against one piece."""


class PrefillSpeed:
    """A token at position p costs ``a + b * p`` seconds: a for the weights, b for each token it attends to.

    Both are fitted to what was seen, later pieces counting more. Only the engine's thread writes; any may read.
    """

    def __init__(self) -> None:
        self._first = self._seen = _Sums()
        self._costs: tuple[float, float] | None = None

    @property
    def known(self) -> bool:
        """Whether anything has been measured."""
        return self._costs is not None

    def saw(self, start: int, tokens: int, seconds: float, first: bool = False) -> None:
        """Take note of ``tokens`` from position ``start`` on; ``first`` marks what was measured for a start."""
        piece = _Sums.of(tokens, tokens * (start + tokens / 2), seconds)
        if first:
            self._first = self._first.plus(piece)
        else:
            self._seen = self._seen.times(_MEMORY).plus(piece)
        self._costs = self._first.times(_TRUST).plus(self._seen).solve()

    def seconds(self, start: int, stop: int) -> float:
        """Expected seconds to prefill the tokens from ``start`` to ``stop``, alone; 0 if nothing is known."""
        a, b = self._costs or (0.0, 0.0)
        return a * (stop - start) + b * (stop**2 - start**2) / 2

    def curve(self, length: int) -> list[tuple[int, float]]:
        """Seconds for a text's first n tokens, for some n up to ``length``, ascending."""
        points = sorted({min(length, n) for e in range(8, 21) for n in (1 << e, 3 << (e - 1))})
        return [(n, self.seconds(0, n)) for n in points] if self.known else []


class _Sums:
    """Normal equations of seconds = a * x + b * y, each piece weighted by 1 / x."""

    def __init__(self, *sums: float) -> None:
        self.sums = sums or (0.0,) * 5

    @classmethod
    def of(cls, x: float, y: float, seconds: float) -> "_Sums":
        return cls(x, y, y * y / x, seconds, y * seconds / x)

    def plus(self, other: "_Sums") -> "_Sums":
        return _Sums(*(a + b for a, b in zip(self.sums, other.sums, strict=True)))

    def times(self, factor: float) -> "_Sums":
        return _Sums(*(factor * a for a in self.sums))

    def solve(self) -> tuple[float, float]:
        xx, xy, yy, xs, ys = self.sums
        determinant = xx * yy - xy * xy
        if determinant > 1e-9 * xx * yy:
            a, b = (xs * yy - ys * xy) / determinant, (ys * xx - xs * xy) / determinant
            if a > 0 and b > 0:
                return a, b
        # All pieces alike, or noise: a cost for each token is the safe reading.
        return xs / xx, 0.0


def timed(model: LanguageModel, rows: Sequence[SequenceInput]) -> tuple[list[Output], float]:
    """Run a forward pass to its end; returns its seconds too."""
    began = time.perf_counter()
    outputs = model.forward(rows)
    if model.device.type == "cuda":  # a pass without logits is only queued otherwise
        torch.cuda.synchronize(model.device)
    return outputs, time.perf_counter() - began


def _probe(model: LanguageModel) -> tuple[int, int]:
    """Tokens of a measured piece, and the position of the second one, where memory is small too."""
    room = min(model.context_length, model.cache_blocks * BLOCK)
    rows = max(1, min(PROBE_ROWS, room // 2))
    return rows, max(rows, min(PROBE_DEPTH, room - rows))


def probe_blocks(model: LanguageModel) -> int:
    """Blocks that :func:`probe_pieces` takes."""
    return -(-sum(_probe(model)) // BLOCK)


def probe_pieces(model: LanguageModel, speed: PrefillSpeed) -> Pieces[None]:
    """Measure a piece at the start and one further on: a fraction of a second.

    What the second one attends to is whatever is in the blocks it is given; that makes no difference to the time.
    """
    cache = model.new_cache()
    rows, depth = _probe(model)
    try:
        for deep in (False, True):
            if deep and isinstance(cache, PagedCache):
                cache.extend(depth - cache.length)
            start = cache.length
            _, seconds = timed(model, [SequenceInput(cache, [1] * rows, logits="none")])
            speed.saw(start, rows, seconds, first=True)
            yield None
    finally:
        cache.release()
