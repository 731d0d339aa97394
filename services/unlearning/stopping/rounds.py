"""Removal and repair in turns, until the model is within every band of the references.

Removal costs utility, which comes back by training on what is kept; that in turn brings a part of what was removed back
to mind. So removal goes a little further than the references, repair goes on until utility is back or the forget set is
known again, and both are repeated from there. Each turn is watched step by step.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from palimpsest.errors import InvalidArgument, Reason
from services.unlearning.stopping.bands import Band, BandMatch, KnownAgain, Nearest
from services.unlearning.stopping.measurements import Measurement
from services.unlearning.stopping.rules import DivergenceGuard, Rule
from services.unlearning.stopping.scalarisation import Chooser
from services.unlearning.stopping.watch import Choice, Watch

Turn = Callable[[Watch], object]
"""Trains the module with a watch as its probe."""


@dataclass(frozen=True)
class Bands:
    """Where everything should be.

    Attributes
    ----------
    known
        Of what is known of the forget set.
    privacy
        Of the membership AUC.
    kept
        Of what is to be kept.
    past
        How far above the middle of its band removal takes the AUC, for repair to bring it back.
    """

    known: tuple[Band, ...]
    privacy: Band
    kept: tuple[Band, ...]
    past: float = 0.0

    @property
    def all(self) -> tuple[Band, ...]:
        """All of them."""
        return (*self.known, self.privacy, *self.kept)

    @property
    def removed(self) -> tuple[Band, ...]:
        """Where a turn of removal goes to: nothing too well known, the AUC past its band, whatever that costs."""
        known = tuple(replace(band, least=-math.inf) for band in self.known)
        middle = (self.privacy.least + self.privacy.most) / 2
        return (*known, replace(self.privacy, least=middle + self.past, most=math.inf))


@dataclass
class Rounds:
    """Turns on one module.

    Attributes
    ----------
    module
        Is trained in place.
    measure
        Measures it at a step.
    bands
        Where it should be.
    guard
        What is broken.
    every
        Steps between two measurements.
    most
        Rounds of a removal and a repair.

    Raises
    ------
    InvalidArgument
        PROBE_INVALID: ``most`` is less than 1.
    """

    module: nn.Module
    measure: Callable[[nn.Module, float], Measurement]
    bands: Bands
    guard: DivergenceGuard
    every: int = 1
    most: int = 3

    def __post_init__(self) -> None:
        if self.most < 1:
            raise InvalidArgument(
                Reason.PROBE_INVALID, f"There is at least one round of removal, not {self.most}."
            )

    def run(self, remove: Turn, repair: Turn) -> list[Choice]:
        """Take turns until a state is within every band; the module has the best state of all turns then.

        Parameters
        ----------
        remove, repair
            Train the module, each until its steps are used up or the watch ends it.

        Returns
        -------
        list
            What each turn ended with: removals and repairs in turns. Their steps are counted from each turn's start.
        """
        everything, nearest = BandMatch(self.bands.all, self.bands.privacy.metric), Nearest(self.bands.all)
        removed = BandMatch(self.bands.removed, "")
        again = KnownAgain((*self.bands.known, self.bands.privacy), self.bands.privacy.metric)
        turns: list[Choice] = []
        best: tuple[tuple[float, float], dict[str, Tensor]] | None = None
        for turn in range(2 * self.most):
            if turn % 2 == 0:
                aim = Nearest(self.bands.removed, before_all=self.bands.all)
                found = self._turn(remove, [everything, removed], aim)
            else:
                found = self._turn(repair, [everything, again], nearest)
            turns.append(found)
            _, worst, total, _ = nearest.key(found.measurement)
            if best is None or (worst, total) < best[0]:
                best = (worst, total), _weights(self.module)
            if worst == 0.0 or (found.decision is not None and found.decision.outcome == "diverged"):
                break
        assert best is not None
        _put(self.module, best[1])
        return turns

    def _turn(self, train: Turn, rules: Sequence[Rule], aim: Chooser) -> Choice:
        watch = Watch(self.module, self.measure, rules, aim, self.guard, every=self.every)
        watch.begin()
        train(watch)
        return watch.finish()


def _weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: each.detach().clone() for name, each in module.named_parameters() if each.requires_grad}


@torch.no_grad()
def _put(module: nn.Module, weights: dict[str, Tensor]) -> None:
    for name, parameter in module.named_parameters():
        if name in weights:
            parameter.copy_(weights[name])
