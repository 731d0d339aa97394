"""Where the spread of a number comes from: the training seed, the removal's own seed, and the items it is a mean of."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """A mean over runs and its sources of variance, as standard deviations of one run.

    Attributes
    ----------
    training
        Between targets of other data and training seeds, beyond what the removal's seed explains; 0 where the estimate
        is negative.
    removal
        Between removals from one target.
    items
        Standard error over the items, root mean square over runs.
    """

    mean: float
    training: float
    removal: float
    items: float

    def __str__(self) -> str:
        return f"{self.mean:+.1f} (training {self.training:.1f}, removal {self.removal:.1f}, items {self.items:.1f})"


def spread_of(values: Sequence[Sequence[float]], errors: Sequence[Sequence[float]]) -> Spread:
    """Estimate the components of a nested design.

    Parameters
    ----------
    values
        [training seeds][removal seeds], as many removal seeds for each.
    errors
        Standard errors over items, likewise.
    """
    table = np.asarray(values, np.float64)  # [training, removal]
    runs = table.shape[1]
    within = float(table.var(axis=1, ddof=1).mean()) if runs > 1 else 0.0
    between = float(table.mean(axis=1).var(ddof=1)) if len(table) > 1 else 0.0
    return Spread(
        float(table.mean()),
        max(0.0, between - within / runs) ** 0.5,
        within**0.5,
        float(np.sqrt(np.mean(np.square(errors)))),
    )
