"""A small search for settings by successive halving (Jamieson and Talwalkar 2016), on the items to tune on.

Learning rate, weight of the retain set and beta matter more than the method. All settings get a few steps; the better
part of them gets more, and so on, until one has had the whole budget.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.progress import NullProgress, Progress
from services.unlearning.splits import require

LEARNING_RATES = (1e-5, 3e-5, 1e-4)
RETAIN_WEIGHTS = (0.5, 1.0, 2.0, 5.0)
FACTOR = 3
"""Of the settings of a round, one in so many goes on, with so many times the steps."""


@dataclass(frozen=True)
class Setting:
    """What is searched for.

    Attributes
    ----------
    learning_rate
        Of the run.
    retain_weight
        Weight of the retain set's loss beside that of the forget set.
    beta
        Of the methods that have one.
    """

    learning_rate: float
    retain_weight: float
    beta: float


@dataclass(frozen=True)
class Trial:
    """One setting, run for some steps.

    Attributes
    ----------
    setting
        Which.
    round
        Counted from 0.
    steps
        That it had.
    cost
        Lower is better; infinite where the run diverged.
    """

    setting: Setting
    round: int
    steps: int
    cost: float


@dataclass(frozen=True)
class SearchResult:
    """The best setting, and every trial in the order they were run."""

    best: Setting
    trials: tuple[Trial, ...]


Evaluate = Callable[[Setting, int, Sequence[str]], float]
"""Runs a setting for some steps, measures it on the named items and returns its cost, such as
:meth:`services.unlearning.stopping.scalarisation.Scalarisation.cost`."""


def grid(
    learning_rates: Sequence[float] = LEARNING_RATES,
    retain_weights: Sequence[float] = RETAIN_WEIGHTS,
    betas: Sequence[float] = (0.1,),
) -> tuple[Setting, ...]:
    """Return every combination."""
    return tuple(Setting(*each) for each in product(learning_rates, retain_weights, betas))


def schedule(count: int, steps: int, factor: int = FACTOR) -> list[tuple[int, int]]:
    """Settings and steps of each round; the last round's steps are the whole budget of one run.

    Parameters
    ----------
    count
        Settings of the first round.
    steps
        Of a whole run.
    factor
        As :data:`FACTOR`.
    """
    counts = [count]
    while counts[-1] > 1:
        counts.append(max(1, counts[-1] // factor))
    last = len(counts) - 1
    return [
        (left, max(1, math.ceil(steps / factor ** (last - number)))) for number, left in enumerate(counts)
    ]


def search(
    settings: Sequence[Setting],
    items: Sequence[str],
    evaluate: Evaluate,
    steps: int,
    *,
    factor: int = FACTOR,
    progress: Progress | None = None,
) -> SearchResult:
    """Find the best of some settings.

    Parameters
    ----------
    settings
        To choose from, the preferred ones first: of equals, the first goes on.
    items
        Ids of what trials are measured on; all of the half to tune on.
    evaluate
        Runs a trial. A cost that is not a number counts as infinite.
    steps
        Of a whole run, which the last round has.
    factor
        As :data:`FACTOR`, at least 2.
    progress
        Told of each trial; may raise to stop.

    Raises
    ------
    InvalidArgument
        SPLIT_CROSSED: items that are kept for the certificate. SEARCH_INVALID: no settings, no steps or no items, or a
        factor below 2; or every trial of a round diverged, so that there is nothing to choose.
    """
    require("tune", items)
    if not settings or not items or steps < 1 or factor < 2:
        message = "A search needs settings, items, at least one step, and a factor of at least 2."
        raise InvalidArgument(Reason.SEARCH_INVALID, message)
    progress = progress or NullProgress()
    rounds = schedule(len(settings), steps, factor)
    total, trials = sum(count for count, _ in rounds), list[Trial]()
    left = list(settings)
    for number, (count, budget) in enumerate(rounds):
        left = left[:count]
        costs = []
        for setting in left:
            progress.step(
                len(trials), total, f"round {number + 1} of {len(rounds)}, {budget} steps a setting"
            )
            cost = evaluate(setting, budget, items)
            costs.append(math.inf if math.isnan(cost) else cost)
            trials.append(Trial(setting, number, budget, costs[-1]))
        if not math.isfinite(min(costs)):
            message = f"All {len(left)} settings diverged within {budget} steps; search lower learning rates."
            raise InvalidArgument(Reason.SEARCH_INVALID, message)
        left = [setting for _, setting in sorted(zip(costs, left, strict=True), key=lambda pair: pair[0])]
    progress.step(total, total)
    return SearchResult(left[0], tuple(trials))
