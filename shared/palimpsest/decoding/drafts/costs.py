"""The expected cost of drafts on an engine, and the cheapest strategy."""

import time
from dataclasses import dataclass, replace

import torch

from palimpsest.decoding.drafts.search import rows_best
from palimpsest.decoding.drafts.settings import DraftSettings, DraftStrategy
from palimpsest.decoding.drafts.verifying import CHUNK
from palimpsest.engine.costs import REPEATS, StepCost, probe_decode
from palimpsest.engine.tasks import TaskSteps
from palimpsest.lm.model import LanguageModel

TRIE = 0.65
"""Typical trie nodes per draft token, for superposed drafts."""

WORTH = 0.95
"""Superposed drafts are worse: they are chosen only if they cost less than this share of the others' time."""


@dataclass(frozen=True)
class DraftCosts:
    """Costs of drafts with one model on one machine.

    Parameters
    ----------
    steps
        What the engine has learnt of its steps.
    per_choice
        Seconds to choose among the tokens of one row of logits.
    """

    steps: StepCost
    per_choice: float

    def drafts(self, settings: DraftSettings, prompt: int, tokens: int, load: int) -> float:
        """Expected seconds to make drafts, after the prompt has been read.

        Parameters
        ----------
        settings
            With the strategy in question.
        prompt, tokens
            Tokens of the prompt and of a draft.
        load
            Rows of other requests in every step. The whole step counts, because the drafts wait for all of it.
        """
        steps, looked_at = max(0, tokens - 1), prompt + tokens // 2
        wide = 1 if settings.strategy.superposes else settings.k
        # The last token of verified drafts comes from the pass that verifies them.
        searched = max(0, steps - (settings.strategy is DraftStrategy.SUPERPOSED_VERIFIED))
        total = searched * (self.steps.decode(load + wide, wide * looked_at) + wide * self.per_choice)
        if settings.verifies:
            nodes = max(settings.made, int(TRIE * settings.made * steps)) if steps else 0
            for first in range(0, nodes, CHUNK):
                rows = min(CHUNK, nodes - first)
                total += self.steps.decode(load + rows, rows * looked_at) + rows * self.per_choice / 2
        return total


def cheapest(
    costs: DraftCosts, settings: DraftSettings, prompt: int, tokens: int, load: int, samples: bool
) -> tuple[DraftStrategy, dict[DraftStrategy, float]]:
    """Choose between superposed drafts and those with one sequence each.

    Parameters
    ----------
    costs
        Of the model.
    settings
        Their strategy is ignored.
    prompt, tokens, load
        As in :meth:`DraftCosts.drafts`.
    samples
        Whether samples are considered instead of beams.

    Returns
    -------
    tuple
        The strategy, and the expected seconds of each that was compared.
    """
    exact = DraftStrategy.NUCLEUS if samples else DraftStrategy.BEAM
    plain = replace(settings, over_generate=0, reset_every=0)
    expected = {
        strategy: costs.drafts(replace(plain, strategy=strategy), prompt, tokens, load)
        for strategy in (exact, DraftStrategy.SUPERPOSED)
    }
    wins = expected[DraftStrategy.SUPERPOSED] < WORTH * expected[exact]
    return (DraftStrategy.SUPERPOSED if wins else exact), expected


def probe_costs(model: LanguageModel, steps: StepCost) -> TaskSteps[DraftCosts]:
    """Measure what has not been measured yet, a step at a time."""
    if not steps.decode_probed:
        yield from probe_decode(model, steps)
    logits = torch.rand(8, model.vocab_size)
    per_choice = min(_seconds_of_choice(logits) for _ in range(REPEATS)) / len(logits)
    return DraftCosts(steps, per_choice)


def _seconds_of_choice(logits: torch.Tensor) -> float:
    began = time.perf_counter()
    rows_best(logits, 8)
    return time.perf_counter() - began
