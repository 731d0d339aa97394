"""Which examples a step sees, and with which seed: functions of (seed, step) alone.

Nothing has a state that a checkpoint would have to keep: a run that goes on at any step sees what it would have seen.
"""

import hashlib
from functools import lru_cache

import numpy as np

from palimpsest.errors import InvalidArgument, Reason


class Order:
    """A shuffled pass over all examples, then another with a shuffle of its own, and so on.

    Each epoch holds every example once; its last batch is short where the batch does not divide the set.

    Parameters
    ----------
    count
        Examples of the set.
    batch
        Examples of one step.
    seed
        Seed of the shuffles. Two sets of one run take different seeds; see :func:`derived_seed`.

    Raises
    ------
    InvalidArgument
        TRAINING_DATA_EMPTY: the set is empty. TRAINING_RECIPE_INVALID: the batch is.
    """

    def __init__(self, count: int, batch: int, seed: int) -> None:
        if count < 1:
            raise InvalidArgument(Reason.TRAINING_DATA_EMPTY, "There are no examples to train on.")
        if batch < 1:
            message = f"A batch has at least one example, not {batch}."
            raise InvalidArgument(Reason.TRAINING_RECIPE_INVALID, message)
        self.count, self.batch, self.seed = count, batch, seed

    @property
    def steps_per_epoch(self) -> int:
        """Steps until every example was seen once."""
        return -(-self.count // self.batch)

    def at(self, step: int) -> list[int]:
        """Indices of the examples of a step, counted from 0: ``batch`` of them or, at an epoch's end, fewer."""
        epoch, position = divmod(step, self.steps_per_epoch)
        first = position * self.batch
        return _shuffled(self.count, self.seed, epoch)[first : first + self.batch].tolist()


def derived_seed(seed: int, *key: int | str) -> int:
    """Return a seed for one purpose of a run, below 2**63: equal for equal arguments, unrelated for others.

    Parameters
    ----------
    seed
        The run's.
    key
        What it is for, such as ``("step", 17)``.
    """
    text = repr((seed, *key))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@lru_cache(maxsize=8)
def _shuffled(count: int, seed: int, epoch: int) -> np.ndarray:
    """All indices in the order of one epoch: int64 [count]; not to be written to."""
    generator = np.random.Generator(np.random.Philox(derived_seed(seed, "epoch", epoch)))
    return generator.permutation(count)
