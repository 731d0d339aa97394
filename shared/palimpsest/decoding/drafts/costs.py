"""What a step of the model costs here by the number of tokens in it, and which strategy that makes the cheapest.

Cost of a step with n rows that look back on c tokens altogether: ``rows(n) + per_token * c``. The first part is
measured at a few n and interpolated; it is no multiple of n, as the weights are read once for several rows, and where
that ends depends on the machine and the dtype.
"""

import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from palimpsest.decoding.drafts.search import rows_best
from palimpsest.decoding.drafts.settings import DraftSettings, DraftStrategy
from palimpsest.decoding.drafts.verifying import PIECE
from palimpsest.engine.speed import timed
from palimpsest.engine.tasks import Pieces
from palimpsest.lm.blocks import BLOCK, PagedCache
from palimpsest.lm.forward import Cache, SequenceInput
from palimpsest.lm.model import LanguageModel

PROBED = (1, 2, 3, 4, 5, 8, 10, 16, 32)
"""Rows of the measured steps; in between costs are interpolated, beyond they go on as between the last two."""

REPEATS = 3
DEEP = 1024
TRIE = 0.65
"""Nodes of the drafts' trie for each of their tokens, as superposed drafts come out."""

WORTH = 0.95
"""Superposed drafts are the weaker ones: they have to cost less than this much of the others' time to be chosen."""


@dataclass(frozen=True)
class StepCosts:
    """Costs of one model on one machine, in seconds.

    Parameters
    ----------
    rows
        Of a step with so many rows and next to nothing to look back on.
    per_token
        For each token that a row looks back on.
    per_choice
        For choosing among the tokens of one row of logits.
    """

    rows: Mapping[int, float]
    per_token: float
    per_choice: float

    def step(self, rows: int, looked_at: int) -> float:
        """Of one step with ``rows`` rows that look back on ``looked_at`` tokens altogether."""
        known = sorted(self.rows)
        at = min(max(bisect_left(known, rows), 1), len(known) - 1)
        low, high = known[at - 1], known[at]
        slope = (self.rows[high] - self.rows[low]) / (high - low)
        base = self.rows[low] + slope * (rows - low)
        return max(base, self.rows[known[0]]) + self.per_token * looked_at

    def drafts(self, settings: DraftSettings, prompt: int, tokens: int, load: int) -> float:
        """Of making drafts, beside others.

        Parameters
        ----------
        settings
            Whose strategy is meant.
        prompt, tokens
            Tokens of the prompt and of a draft.
        load
            Rows of others in every step; the whole step counts, as the drafts wait for all of it.

        Returns
        -------
        float
            Seconds after the prompt has been read.
        """
        steps, looked_at = max(0, tokens - 1), prompt + tokens // 2
        wide = 1 if settings.strategy.superposes else settings.k
        # The last token of verified drafts comes from the pass that verifies them.
        searched = max(0, steps - (settings.strategy is DraftStrategy.SUPERPOSED_VERIFIED))
        total = searched * (self.step(load + wide, wide * looked_at) + wide * self.per_choice)
        if settings.verifies:
            nodes = max(settings.made, int(TRIE * settings.made * steps)) if steps else 0
            for first in range(0, nodes, PIECE):
                piece = min(PIECE, nodes - first)
                total += self.step(load + piece, piece * looked_at) + piece * self.per_choice / 2
        return total


def cheapest(
    costs: StepCosts, settings: DraftSettings, prompt: int, tokens: int, load: int, samples: bool
) -> tuple[DraftStrategy, dict[DraftStrategy, float]]:
    """Choose between superposed drafts and those with a sequence each.

    Parameters
    ----------
    costs
        Of the model.
    settings
        Their strategy is left out of account.
    prompt, tokens, load
        As in :meth:`StepCosts.drafts`.
    samples
        Whether samples are wanted, in place of the most probable drafts.

    Returns
    -------
    tuple
        The strategy, and the expected seconds of each that came into question.
    """
    exact = DraftStrategy.NUCLEUS if samples else DraftStrategy.BEAM
    plain = replace(settings, over_generate=0, reset_every=0)
    expected = {
        strategy: costs.drafts(replace(plain, strategy=strategy), prompt, tokens, load)
        for strategy in (exact, DraftStrategy.SUPERPOSED)
    }
    wins = expected[DraftStrategy.SUPERPOSED] < WORTH * expected[exact]
    return (DraftStrategy.SUPERPOSED if wins else exact), expected


def probe_blocks(model: LanguageModel) -> int:
    """Cache memory that :func:`probe_pieces` needs, in blocks."""
    return _depth(model) // BLOCK + 2 + max(PROBED)


def _depth(model: LanguageModel) -> int:
    room = min(model.context_length, (model.cache_blocks - max(PROBED) - 2) * BLOCK)
    return max(0, min(DEEP, room - BLOCK))


def probe_pieces(model: LanguageModel) -> Pieces[StepCosts]:
    """Measure, a step at a time: as long as about sixty steps of one stream."""
    rows = {}
    base = model.new_cache()
    try:
        model.forward([SequenceInput(base, [1], logits="none")])
        for count in PROBED:
            times = []
            for _ in range(REPEATS):
                times.append(_seconds(model, base, count))
                yield None
            rows[count] = min(times)
        logits = torch.rand(8, model.vocab_size)
        per_choice = min(_seconds_of_choice(logits) for _ in range(REPEATS)) / len(logits)
        depth, per_token = _depth(model), 0.0
        if depth > BLOCK and isinstance(base, PagedCache):
            base.extend(depth - base.length)  # whatever is in these blocks takes as long to look at
            times = []
            for _ in range(REPEATS):
                times.append(_seconds(model, base, 8))
                yield None
            per_token = max(0.0, (min(times) - rows[8]) / (8 * depth))
    finally:
        base.release()
    return StepCosts(_rising(rows), per_token, per_choice)


def _seconds_of_choice(logits: torch.Tensor) -> float:
    began = time.perf_counter()
    rows_best(logits, 8)
    return time.perf_counter() - began


def _seconds(model: LanguageModel, base: Cache, count: int) -> float:
    caches = [base.branch() for _ in range(count)]
    try:
        return timed(model, [SequenceInput(cache, [1]) for cache in caches])[1]
    finally:
        for cache in caches:
            cache.release()


def _rising(rows: Mapping[int, float]) -> dict[int, float]:
    """Costs that do not fall with the number of rows: where they seem to, something else ran meanwhile."""
    known: Sequence[int] = sorted(rows, reverse=True)
    out, least = {}, float("inf")
    for count in known:
        least = min(least, rows[count])
        out[count] = least
    return dict(sorted(out.items()))
