"""Watches a run: measures it every few steps, ends it by its rules, and gives back its best checkpoint."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from services.unlearning.stopping.interpolation import TRIES, bisect, mix
from services.unlearning.stopping.measurements import Measurement
from services.unlearning.stopping.rules import Decision, DivergenceGuard, Rule, Target
from services.unlearning.stopping.scalarisation import Chooser
from services.unlearning.stopping.snapshots import Snapshots


@dataclass(frozen=True)
class Choice:
    """The checkpoint that a run ends with.

    Attributes
    ----------
    measurement
        What was measured of it; its step is a fraction where the weights of two were mixed.
    decision
        Why the run ended; None: its steps were used up.
    last
        What was measured after the last step.
    history
        Everything measured, in the order of steps.
    """

    measurement: Measurement
    decision: Decision | None
    last: Measurement
    history: tuple[Measurement, ...]


class Watch:
    """The ``probe`` of a training run, and what it remembers.

    ::

        watch = Watch(module, probe.measure, rules, scalarisation, guard)
        watch.begin()                                           # attach an adapter before, if there is one
        train(module, objective, recipe, progress=progress, probe=watch)
        choice = watch.finish()                                 # the module has the best weights now

    Parameters
    ----------
    module
        What is trained. Only parameters that require gradients are kept and restored.
    measure
        Measures the module as it is at a step: :meth:`services.unlearning.stopping.probes.Probe.measure`.
    rules
        When the run ends, in the order in which they are asked.
    scalarisation
        Which checkpoint is the best.
    guard
        What is broken: it ends the run before any rule, and a broken checkpoint is never the best.
    every
        Steps between two measurements.
    folder
        Where weights are kept between attempts of a job; None: in memory, for a run that is not resumed.

    Raises
    ------
    InvalidArgument
        PROBE_INVALID: ``every`` is less than 1.
    """

    def __init__(
        self,
        module: nn.Module,
        measure: Callable[[nn.Module, float], Measurement],
        rules: Sequence[Rule],
        scalarisation: Chooser,
        guard: DivergenceGuard,
        *,
        every: int = 1,
        folder: Path | None = None,
    ) -> None:
        if every < 1:
            raise InvalidArgument(
                Reason.PROBE_INVALID, f"A run is measured every step at most, not every {every}."
            )
        self._module, self._measured, self._rules = module, measure, tuple(rules)
        self._scalarisation, self._guard, self._every = scalarisation, guard, every
        self._snapshots = Snapshots(folder)
        self._history: list[Measurement] = []
        self._broken: list[float] = []
        self._decision: Decision | None = None
        self._told: set[int] = set()

    def begin(self) -> None:
        """Measure the module before the first step."""
        self._history, self._broken, self._decision = [], [], None
        self._measure(0)

    def __call__(self, step: int) -> bool:
        """Measure after a step (counted from 0) if it is due; return whether the run ends.

        Raises
        ------
        FailedPrecondition
            RUN_NOT_BEGUN: :meth:`begin` was not called.
        """
        if not self._history:
            message = (
                "A watched run begins with Watch.begin(), which measures the model before the first step."
            )
            raise FailedPrecondition(Reason.RUN_NOT_BEGUN, message)
        if (step + 1) % self._every:
            return False
        self._measure(step + 1)
        return self._decision is not None

    def finish(self) -> Choice:
        """Put the best weights into the module, after a search between two steps if the rule says so."""
        last = self._history[-1]
        mixed: dict[float, tuple[int, int, float]] = {}
        tried: list[Measurement] = []
        if self._decision is not None and self._decision.target is not None and len(self._history) > 1:
            tried = self._between(self._history[-2], last, self._decision.target, mixed)
        measured = sorted([*self._history, *tried], key=lambda each: each.step)
        best = self._scalarisation.best(measured, self._broken)
        if best.step in mixed:
            self._mix(*mixed[best.step])
        else:
            weights = self._snapshots.weights(int(best.step))
            mix(self._module, weights, weights, 0.0)
        return Choice(best, self._decision, last, tuple(measured))

    def discard(self) -> None:
        """Delete all weights that were kept. They hold what is to be forgotten: do it once the result is safe."""
        self._snapshots.drop_all_but(())

    def state(self) -> dict[str, Any]:
        """What a later attempt needs, as JSON-able data; the weights stay in the folder."""
        digests = self._snapshots.digests
        # A checkpoint that is being written may be lost, and the one before it names the weights of its own time.
        self._snapshots.drop_all_but(self._needed() | self._told)
        self._told = self._needed()
        return {
            "history": [each.facts() for each in self._history],
            "broken": self._broken,
            "decision": _facts(self._decision),
            "snapshots": {str(step): digests[step] for step in sorted(self._needed())},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state`` returned."""
        self._history = [Measurement.of(each) for each in state["history"]]
        self._broken = [float(step) for step in state["broken"]]
        self._decision = _decision(state["decision"])
        self._snapshots.adopt({int(step): digest for step, digest in state["snapshots"].items()})
        self._told = self._snapshots.steps

    def _measure(self, step: int) -> None:
        if self._history and self._history[-1].step >= step:
            return  # an attempt before this one was interrupted after it
        measurement = self._measured(self._module, step)
        self._history.append(measurement)
        self._snapshots.keep(step, self._module)
        self._decision = self._guard.judge(self._history)
        if self._decision is not None:
            self._broken.append(measurement.step)
        for rule in self._rules:
            if self._decision is None:
                self._decision = rule.judge(self._history)
        if step == 0 and self._decision is not None and self._decision.outcome != "diverged":
            self._decision = None  # what holds before the first step ends no run
        self._snapshots.drop_all_but(self._needed() | self._told)

    def _needed(self) -> set[int]:
        """Steps of the best checkpoint so far and of the last two."""
        best = self._scalarisation.best(self._history, self._broken)
        return {int(each.step) for each in (best, *self._history[-2:])}

    def _between(
        self,
        low: Measurement,
        high: Measurement,
        target: Target,
        mixed: dict[float, tuple[int, int, float]],
    ) -> list[Measurement]:
        """Search the line between two steps; returns what was measured, and fills in how to make it again."""
        ends = (low[target.metric], high[target.metric])
        if not (ends[0] - target.value) * (ends[1] - target.value) < 0.0:
            return []  # already past it before the first step: there is no point between
        tried: list[Measurement] = []
        first, second = (self._snapshots.weights(int(end.step)) for end in (low, high))

        def value(share: float) -> float:
            mix(self._module, first, second, share)
            step = low.step + share * (high.step - low.step)
            tried.append(self._measured(self._module, step))
            mixed[step] = (int(low.step), int(high.step), share)
            return tried[-1][target.metric]

        bisect(value, ends, target.value, tolerance=target.tolerance, tries=TRIES)
        self._broken += [each.step for each in tried if self._guard.judge([each]) is not None]
        return tried

    def _mix(self, low: int, high: int, share: float) -> None:
        mix(self._module, self._snapshots.weights(low), self._snapshots.weights(high), share)


def _facts(decision: Decision | None) -> dict[str, Any] | None:
    if decision is None:
        return None
    target = decision.target
    return {
        "rule": decision.rule,
        "outcome": decision.outcome,
        "detail": decision.detail,
        "target": None if target is None else [target.metric, target.value, target.tolerance],
    }


def _decision(facts: Mapping[str, Any] | None) -> Decision | None:
    if facts is None:
        return None
    target = facts["target"]
    made = Decision(facts["rule"], facts["outcome"], facts["detail"])
    return made if target is None else replace(made, target=Target(target[0], target[1], target[2]))
