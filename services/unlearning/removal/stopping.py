"""The stopping rule of a plan, as the probe of its training run."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from palimpsest.errors import FailedPrecondition, Reason
from palimpsest.progress import NullProgress, Progress
from palimpsest.training.batches import Example
from services.unlearning.metrics.muse import KNOWMEM, VERBMEM
from services.unlearning.removal.measuring import items_of, measure
from services.unlearning.removal.models import loaded
from services.unlearning.removal.plan import ResolvedPlan
from services.unlearning.stopping.measurements import Measurement
from services.unlearning.stopping.probes import Probe
from services.unlearning.stopping.references import retrained
from services.unlearning.stopping.rules import (
    Bound,
    DivergenceGuard,
    ForgetMatch,
    HoldoutMatch,
    PrivacyMatch,
    Target,
    UtilityFloor,
)
from services.unlearning.stopping.scalarisation import Scalarisation
from services.unlearning.stopping.watch import Watch
from services.unlearning.workspace import Workspace

MOST_TEXTS = 100
"""Sequences of each set that a look reads."""
_FACTS, _HALF = "references.json", "_half_interval"
_TOLERANCE = 0.05
"""How near what was passed is looked for between two looks: of an AUC; of a loss, as a share of the reference's."""


def watch_of(
    plan: ResolvedPlan, module: nn.Module, tokenizer: Any, space: Workspace, progress: Progress
) -> Watch | None:
    """Return what watches a run, begun; None for a plan without a rule.

    Parameters
    ----------
    plan
        Its references are measured here, once.
    module
        What is trained, its adapter attached.
    tokenizer
        The model's.
    space
        Keeps weights to go back to.
    progress
        Told of the references.
    """
    name = plan.plan.stopping.rule
    if not name:
        return None
    # What a run is ended by does not certify it, where data is split in halves.
    seen = plan.half("tune") if plan.plan.HasField("search") else plan
    generates = name == "generation_match"
    probe = probe_of(seen, _generated(seen, tokenizer) if generates else None)
    values: dict[str, float] = {}
    if plan.references:
        values = dict(retrained(_references(plan, probe, space, progress)).values)
    bounds = (Bound("forget_em", values["forget_em"]),) if values else ()
    if generates:
        bounds = tuple(
            Bound(metric, values[metric], values[metric + _HALF])
            for metric in (VERBMEM.metric, KNOWMEM.metric)
            if metric in values
        )
        if not bounds:
            message = (
                "'generation_match' has nothing to generate: no document of the forget set is long enough to be "
                "continued, and there is no question. Choose 'forget_match'."
            )
            raise FailedPrecondition(Reason.REFERENCE_MISSING, message)
    rule: Any = HoldoutMatch()
    by_auc, by_loss = name in ("privacy_match", "holdout_match"), False
    if name in ("forget_match", "generation_match"):
        # Held-out texts tell what of a loss is the model's in general; without them the loss is all there is.
        by_auc = "auc" in values
        by_loss = not by_auc
        rule = ForgetMatch(bounds, name, _past(values, "auc" if by_auc else "forget_nll"))
    elif name == "privacy_match":
        rule = PrivacyMatch(values["auc"])
    elif name == "utility_floor":
        rule = UtilityFloor(values["utility"])
    scalarisation = Scalarisation(
        bounds,
        auc=values.get("auc", 0.5) if by_auc else None,
        nll=values["forget_nll"] if by_loss else None,
        utility=0.95 * values["utility"] if "utility" in values else None,
    )
    watch = Watch(
        module,
        probe.measure,
        [rule],
        scalarisation,
        guard_of(plan),
        every=plan.probe_steps,
        folder=space.snapshots,
    )
    watch.begin()
    return watch


def _past(values: Mapping[str, float], metric: str) -> Target:
    return Target(metric, values[metric], _TOLERANCE * (1.0 if metric == "auc" else values[metric]))


def probe_of(plan: ResolvedPlan, extra: Callable[[nn.Module], Mapping[str, float]] | None = None) -> Probe:
    """What a look at a model in training reads of a plan's data sets, and what ``extra`` measures beside it."""
    return Probe(
        _some(plan, "forget"),
        _documents(plan, "holdout"),
        _some(plan, "utility") or _some(plan, "retain"),
        pad=plan.pad,
        extra=extra,
    )


def _generated(plan: ResolvedPlan, tokenizer: Any) -> Callable[[nn.Module], dict[str, float]]:
    """Measure how well a model continues the forget set and answers about it, and half the interval of either."""
    items = items_of(plan, tokenizer).fewer()

    def generated(module: nn.Module) -> dict[str, float]:
        found: dict[str, float] = {}
        for score in measure(module, tokenizer, items, NullProgress()):
            low, high = score.interval or (score.value, score.value)
            found |= {score.metric: score.value, score.metric + _HALF: (high - low) / 2}
        return found

    return generated


def guard_of(plan: ResolvedPlan) -> DivergenceGuard:
    """What counts as broken with the model of a plan."""
    return DivergenceGuard(plan.model.vocab_size)


def _references(
    plan: ResolvedPlan, probe: Probe, space: Workspace, progress: Progress
) -> dict[str, dict[str, float]]:
    known: dict[str, dict[str, float]] = space.read(_FACTS) or {}
    for number, record in enumerate(plan.references):
        if record.model_id not in known:
            progress.step(number, len(plan.references), "measuring references")
            measured: Measurement = probe.measure(loaded(record, plan).module, 0)
            known[record.model_id] = dict(measured.values)
            space.write(_FACTS, known)
    return known


def _some(plan: ResolvedPlan, field: str) -> list[Example]:
    found = plan.sets.get(field)
    return list(found.examples[:MOST_TEXTS]) if found else []


def _documents(plan: ResolvedPlan, field: str) -> list[Example]:
    found = plan.sets.get(field)
    if found is None:
        return []
    names = {document.id for document in found.source.documents}
    return [example for example in found.examples if example.name in names][:MOST_TEXTS]
