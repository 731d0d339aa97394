"""A plan's search for settings: trials on the one half of the data, each kept when it has ended."""

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.progress import NullProgress, Progress
from palimpsest.training.order import derived_seed
from services.unlearning.algorithms.parameters import Parameters
from services.unlearning.removal.candidates import BETA, WEIGHT
from services.unlearning.removal.models import loaded
from services.unlearning.removal.plan import ResolvedPlan
from services.unlearning.removal.stopping import guard_of, probe_of
from services.unlearning.removal.training import trained_for
from services.unlearning.search import SearchResult, Setting, grid, schedule, search
from services.unlearning.stopping.references import retrained
from services.unlearning.stopping.rules import Bound
from services.unlearning.stopping.scalarisation import Scalarisation
from services.unlearning.workspace import Workspace

MOST_SETTINGS = 64
"""Candidates of a search."""
_KEPT = "search.json"
_SHORTFALL = 1000.0
"""What a point of utility below the least asked for costs: more than anything that is known of the forget set."""
_KEPT_SHARE = 0.95
"""Of the utility to compare with: the least asked for."""


def searched(plan: ResolvedPlan, space: Workspace, progress: Progress) -> tuple[ResolvedPlan, list[pb.Trial]]:
    """Return a plan with the best of its candidates, and all trials; a plan without a search as it is.

    Parameters
    ----------
    plan
        Resolved.
    space
        Keeps the cost of each trial that has ended: a later attempt goes on after the last of them.
    progress
        Told of every step of every trial; may raise to stop between two.

    Raises
    ------
    InvalidArgument
        SEARCH_INVALID: all candidates diverged.
    """
    if not plan.plan.HasField("search"):
        return plan, []
    trials = _Trials(plan, space, progress)
    found = search(
        candidates_of(plan), trials.items, trials.cost, plan.recipe.steps, progress=_Told(progress)
    )
    return with_setting(plan, found.best), _messages(found)


def candidates_of(plan: ResolvedPlan) -> tuple[Setting, ...]:
    """The settings of a plan's search in their order; of more than it may try, some drawn by its seed."""
    given, parameters = plan.plan.search, plan.parameters
    settings = grid(
        _of(given.learning_rates, plan.recipe.learning_rate),
        _of(given.retain_weights, _own(parameters, WEIGHT)),
        _of(given.betas, _own(parameters, BETA)),
    )
    most = given.trials or MOST_SETTINGS
    if len(settings) <= most:
        return settings
    drawn = random.Random(derived_seed(plan.recipe.seed, "search")).sample(range(len(settings)), most)
    return tuple(settings[place] for place in sorted(drawn))


def with_setting(plan: ResolvedPlan, setting: Setting, steps: int = 0) -> ResolvedPlan:
    """Return a plan with a setting in place of its own, and with some steps; 0: as many as it has."""
    given, values = plan.plan.search, dict(plan.values)
    if given.retain_weights:
        values[WEIGHT] = setting.retain_weight
    if given.betas:
        values[BETA] = setting.beta
    recipe = replace(plan.recipe, learning_rate=setting.learning_rate, steps=steps or plan.recipe.steps)
    return replace(plan, recipe=recipe, values=values, parameters=plan.algorithm.parse(values))


def trial_steps(plan: ResolvedPlan) -> list[int]:
    """Steps of every trial of a plan's search; of none without one."""
    if not plan.plan.HasField("search"):
        return []
    rounds = schedule(len(candidates_of(plan)), plan.recipe.steps)
    return [steps for count, steps in rounds for _ in range(count)]


class _Trials:
    """Runs the trials of a plan.

    Attributes
    ----------
    items
        What they are measured on, by what decides its half.
    """

    def __init__(self, plan: ResolvedPlan, space: Workspace, progress: Progress) -> None:
        self._plan, self._space, self._progress = plan.half("tune"), space, progress
        self._probe = probe_of(self._plan)
        self._kept: dict[str, Any] = space.read(_KEPT) or {"costs": {}}
        source = self._plan.forget.source
        self.items = [source.group(name) for name, _, _ in source.texts()]

    def cost(self, setting: Setting, steps: int, items: Sequence[str]) -> float:
        """Train a copy of the model for some steps, and measure it."""
        name = f"{setting.learning_rate!r} {setting.retain_weight!r} {setting.beta!r} {steps}"
        costs: dict[str, float] = self._kept["costs"]
        if name not in costs:
            costs[name] = self._run(with_setting(self._plan, setting, steps))
            self._space.write(_KEPT, self._kept)
        return costs[name]

    def _run(self, plan: ResolvedPlan) -> float:
        aims = self._aims()
        model: Any = loaded(plan.model, plan)
        quiet = _Told(self._progress, f"searching, learning rate {plan.recipe.learning_rate:g}")
        if trained_for(plan, model.module, model.tokenizer, quiet).diverged:
            return math.inf
        measured = self._probe.measure(model.module, plan.recipe.steps)
        if guard_of(plan).judge([measured]) is not None:
            return math.inf
        return aims.cost(measured) + _SHORTFALL * aims.shortfall(measured)

    def _aims(self) -> Scalarisation:
        """What a trial should come to: the references, or what was never trained on, with the utility before."""
        if "aims" not in self._kept:
            self._kept["aims"] = self._measured_aims()
            self._space.write(_KEPT, self._kept)
        values: Mapping[str, float] = self._kept["aims"]
        utility = values.get("utility")
        return Scalarisation(
            (Bound("forget_em", values["forget_em"]),),
            auc=values.get("auc"),
            utility=None if utility is None else _KEPT_SHARE * utility,
        )

    def _measured_aims(self) -> dict[str, float]:
        plan = self._plan
        measured: dict[str, Mapping[str, float]] = {}
        records = plan.references or (plan.model,)
        for number, record in enumerate(records):
            self._progress.step(number, len(records), "measuring what a search aims at")
            measured[record.model_id] = self._probe.measure(loaded(record, plan).module, 0).values
        values = dict(retrained(measured).values)
        if not plan.references:
            values["forget_em"] = values.get("holdout_em", 0.0)
            if "auc" in values:
                values["auc"] = 0.5
        return {name: values[name] for name in ("forget_em", "auc", "utility") if name in values}


class _Told(NullProgress):
    """Tells a search's progress under one stage, and interrupts as the one that it tells does."""

    def __init__(self, progress: Progress, stage: str = "searching") -> None:
        super().__init__()
        self._progress, self._stage = progress, stage

    def step(self, done: int, total: int, stage: str = "") -> None:
        """Pass on; of a stage of its own, only a round's."""
        named = f"{self._stage}, {stage}" if stage.startswith("round") else self._stage
        self._progress.step(done, total, named)

    def check(self) -> None:
        """Check."""
        self._progress.check()


def _messages(found: SearchResult) -> list[pb.Trial]:
    last = len(found.trials) - 1
    return [
        pb.Trial(
            learning_rate=each.setting.learning_rate,
            retain_weight=each.setting.retain_weight,
            beta=each.setting.beta,
            round=each.round,
            steps=each.steps,
            cost=each.cost,
            chosen=number == last,
        )
        for number, each in enumerate(found.trials)
    ]


def _of(given: Iterable[float], own: float) -> tuple[float, ...]:
    return tuple(dict.fromkeys(given)) or (own,)


def _own(parameters: Parameters, name: str) -> float:
    return float(getattr(parameters, name, None) or 0.0)
