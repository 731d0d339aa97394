"""The cost of a step on this engine: one model, fitted to every step the engine runs.

::

    prefill   a token at position p:                       a + b p         a for the weights, b for attention
    decode    n rows that attend to c tokens altogether:   base(n) + d c   the weights are read once for several rows,
                                                                           so base(n) is less than n base(1)

The first law is fitted to steps that only read a prompt, the second to steps that only generate; mixed steps are
ignored. Before anything has run, :func:`probe_prefill` and :func:`probe_decode` measure.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np

from palimpsest.engine.tasks import TaskSteps
from palimpsest.lm.blocks import BLOCK
from palimpsest.lm.forward import Cache, Output, SequenceInput
from palimpsest.lm.paged_cache import PagedCache
from palimpsest.lm.protocols import Model

PROBE_ROWS, PROBE_DEPTH = 64, 1024
"""Tokens of a measured prompt chunk, and the position of the second one."""

PROBED = (1, 2, 3, 4, 5, 8, 10, 16, 32)
"""Rows of the measured decode steps. Costs are interpolated between, extrapolated beyond the last two."""

REPEATS = 3
"""Runs of each measured decode step; the fastest counts."""

EXACT_ROWS = 16
"""Costs are kept per exact row count up to this, per power of two above."""

_MEMORY = 0.95
"""Weight that earlier prompt chunks keep with each new one: the last few dozen dominate."""

_DECODE_MEMORY = 0.9

_TRUST = 0.002
"""Weight of the first measurement against one prompt chunk."""

_GUESS = {1: 1.0, 2: 1.1, 4: 1.6, 8: 2.0, 16: 2.3, 32: 2.7, 64: 3.7, 256: 12.0}
"""Assumed cost of an n-row step relative to a one-row step, before anything is measured."""

_SIZES = [*_GUESS, 1024]
_RATIOS = [*_GUESS.values(), 48.0]


class StepCost:
    """Expected seconds of steps. Only the engine's thread writes; any thread may read."""

    def __init__(self) -> None:
        self._first = self._seen = _Sums()
        self._prefill: tuple[float, float] | None = None
        self._base: dict[int, float] = {}
        self._outdated: set[int] = set()
        self._per_token: float | None = None

    @property
    def prefill_known(self) -> bool:
        """Whether any prompt chunk has been timed."""
        return self._prefill is not None

    @property
    def decode_probed(self) -> bool:
        """Whether decode steps of all probed sizes have been timed."""
        return self._per_token is not None

    def saw_prefill(self, start: int, tokens: int, seconds: float, first: bool = False) -> None:
        """Learn from ``tokens`` prompt tokens from position ``start`` on; ``first`` marks a probe."""
        chunk = _Sums.of(tokens, tokens * (start + tokens / 2), seconds)
        if first:
            self._first = self._first.plus(chunk)
        else:
            self._seen = self._seen.times(_MEMORY).plus(chunk)
        self._prefill = self._first.times(_TRUST).plus(self._seen).solve()

    def saw_decode(self, rows: int, looked_at: int, seconds: float) -> None:
        """Learn from a step of ``rows`` rows that attended to ``looked_at`` tokens altogether."""
        size = _size(rows)
        base = max(0.0, seconds - self._attention * looked_at)
        known = None if size in self._outdated else self._base.get(size)
        self._outdated.discard(size)
        self._base[size] = base if known is None else known + (1 - _DECODE_MEMORY) * (base - known)

    def probed(self, base: dict[int, float], per_token: float) -> None:
        """Take over measured decode costs: seconds by rows, and per row and token attended to."""
        self._base, self._per_token = dict(base), per_token

    def prefill(self, start: int, stop: int) -> float:
        """Seconds to prefill the tokens from ``start`` to ``stop``, alone; 0 if nothing is known."""
        a, b = self._prefill or (0.0, 0.0)
        return a * (stop - start) + b * (stop**2 - start**2) / 2

    def prefill_curve(self, length: int) -> list[tuple[int, float]]:
        """Seconds for a text's first n tokens, for some n up to ``length``, ascending; empty if nothing is known."""
        points = sorted({min(length, n) for e in range(8, 21) for n in (1 << e, 3 << (e - 1))})
        return [(n, self.prefill(0, n)) for n in points] if self.prefill_known else []

    def decode(self, rows: int, looked_at: int = 0) -> float:
        """Seconds of a step of ``rows`` rows that attend to ``looked_at`` tokens altogether; 0 if nothing is known."""
        sizes = sorted(self._base)
        if not sizes:
            return 0.0
        # More rows never cost less: where they seem to, something else ran meanwhile.
        costs = np.minimum.accumulate([self._base[n] for n in reversed(sizes)])[::-1]
        base = float(np.interp(rows, sizes, costs))
        if rows > sizes[-1] and len(sizes) > 1:
            base += (rows - sizes[-1]) * float(costs[-1] - costs[-2]) / (sizes[-1] - sizes[-2])
        return base + self._attention * looked_at

    def relative(self, rows: int) -> float:
        """Cost of a step of ``rows`` rows relative to a one-row step; assumed for sizes that have not run."""
        points, single = dict(_GUESS), self._base.get(1)
        if single:
            points |= {n: max(1.0, seconds / single) for n, seconds in self._base.items()}
        sizes = sorted(points)
        costs = np.maximum.accumulate([points[n] for n in sizes])
        return float(np.interp(rows, sizes, costs))

    def any_step(self) -> Callable[[int, int], float]:
        """A function of a step's rows, prompt tokens included, and the tokens they attend to: its expected cost.

        In seconds; sizes that have not run are assumed from those that have. Relative to a one-row step before anything
        has run.
        """
        measured, known = sorted(self._base), dict(self._base)
        sizes = sorted({*_SIZES, *measured})
        assumed = dict(zip(sizes, np.interp(sizes, _SIZES, _RATIOS), strict=True))
        for n in sizes if measured else ():
            nearest = max((m for m in measured if m <= n), default=measured[0])
            known[n] = self._base[nearest] * assumed[n] / assumed[nearest]
        points = [(known or assumed)[n] for n in sizes]
        costs = np.minimum.accumulate(points[::-1])[::-1]  # as in decode()
        per_token = self._attention if measured else 0.0
        return lambda rows, looked_at: float(np.interp(rows, sizes, costs)) + per_token * looked_at

    def forget(self, rows: int) -> None:
        """Let the next step of so many rows count as the first: what is known of them may be of another time."""
        self._outdated.add(_size(rows))

    @property
    def _attention(self) -> float:
        """Seconds for each token that a row attends to."""
        if self._per_token is not None:
            return self._per_token
        return 0.0 if self._prefill is None else self._prefill[1]


def _size(rows: int) -> int:
    """The row count under which a step's cost is kept."""
    return rows if rows <= EXACT_ROWS else 1 << (rows - 1).bit_length()


class _Sums:
    """Normal equations of seconds = a * x + b * y, each chunk weighted by 1 / x."""

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
        # All chunks alike, or noise: a cost for each token is the safe reading.
        return xs / xx, 0.0


def timed(model: Model, inputs: Sequence[SequenceInput]) -> tuple[list[Output], float]:
    """Run a forward pass to its end; returns its seconds too."""
    began = time.perf_counter()
    outputs = model.forward(inputs)
    model.wait()  # a pass without logits is only queued otherwise
    return outputs, time.perf_counter() - began


def _prefill_probe(model: Model) -> tuple[int, int]:
    """Tokens of a measured chunk, and the position of the second one, where memory is small too."""
    room = min(model.limits.context_length, model.limits.cache_blocks * BLOCK)
    rows = max(1, min(PROBE_ROWS, room // 2))
    return rows, max(rows, min(PROBE_DEPTH, room - rows))


def prefill_probe_blocks(model: Model) -> int:
    """Blocks that :func:`probe_prefill` takes."""
    return -(-sum(_prefill_probe(model)) // BLOCK)


def probe_prefill(model: Model, cost: StepCost) -> TaskSteps[None]:
    """Measure a prompt chunk at the start and one further on: a fraction of a second.

    What the second one attends to is whatever is in the blocks it is given; that makes no difference to the time.
    """
    cache = model.new_cache()
    rows, depth = _prefill_probe(model)
    try:
        for deep in (False, True):
            if deep and isinstance(cache, PagedCache):
                cache.extend(depth - cache.length)
            start = cache.length
            _, seconds = timed(model, [SequenceInput(cache, [1] * rows, logits="none")])
            cost.saw_prefill(start, rows, seconds, first=True)
            yield None
    finally:
        cache.release()


def decode_probe_blocks(model: Model) -> int:
    """Blocks that :func:`probe_decode` takes."""
    return _decode_depth(model) // BLOCK + 2 + max(PROBED)


def _decode_depth(model: Model) -> int:
    room = min(model.limits.context_length, (model.limits.cache_blocks - max(PROBED) - 2) * BLOCK)
    return max(0, min(PROBE_DEPTH, room - BLOCK))


def probe_decode(model: Model, cost: StepCost) -> TaskSteps[StepCost]:
    """Measure decode steps of several sizes, a step at a time: as long as about sixty steps of one stream."""
    base: dict[int, float] = {}
    cache = model.new_cache()
    try:
        model.forward([SequenceInput(cache, [1], logits="none")])
        for rows in PROBED:
            times = []
            for _ in range(REPEATS):
                times.append(_decode_seconds(model, cache, rows))
                yield None
            base[rows] = min(times)
        depth, per_token = _decode_depth(model), 0.0
        if depth > BLOCK and isinstance(cache, PagedCache):
            cache.extend(depth - cache.length)  # whatever is in these blocks takes as long to attend to
            times = []
            for _ in range(REPEATS):
                times.append(_decode_seconds(model, cache, 8))
                yield None
            per_token = max(0.0, (min(times) - base[8]) / (8 * depth))
    finally:
        cache.release()
    cost.probed(base, per_token)
    return cost


def _decode_seconds(model: Model, cache: Cache, rows: int) -> float:
    caches = [cache.branch() for _ in range(rows)]
    try:
        return timed(model, [SequenceInput(each, [1]) for each in caches])[1]
    finally:
        for each in caches:
            each.release()
