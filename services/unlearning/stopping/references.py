"""What an unlearned model is compared with, by name: a figure means nothing without its reference.

The best is several models retrained without the forget set, as two of them differ too. Where nobody can afford one, in
this order: what removal did to a small model of the same family; the texts that were never seen; the base model.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from services.unlearning.stopping.measurements import Measurement

Kind = Literal["retrained", "proxy", "holdout", "base"]


@dataclass(frozen=True)
class Reference:
    """Values that an unlearned model should have.

    Attributes
    ----------
    kind
        Where they come from.
    models
        Names of the models that they were measured on.
    values
        Metrics by name.
    spreads
        Standard deviation over the models, for each metric that several were measured by.
    """

    kind: Kind
    models: tuple[str, ...]
    values: Mapping[str, float]
    spreads: Mapping[str, float]

    def __getitem__(self, metric: str) -> float:
        """Value of a metric.

        Raises
        ------
        FailedPrecondition
            REFERENCE_MISSING: the reference does not have it.
        """
        if metric not in self.values:
            message = (
                f"The {self.kind} reference ({', '.join(self.models)}) has no {metric}; measure it there first, or "
                "choose a rule that does without."
            )
            raise FailedPrecondition(Reason.REFERENCE_MISSING, message)
        return self.values[metric]

    @property
    def sentence(self) -> str:
        """Say what the reference is, for certificates."""
        names = ", ".join(self.models)
        return {
            "retrained": f"Models retrained without the forget set: {names}.",
            "proxy": f"The change that retraining without the forget set made to a smaller model: {names}.",
            "holdout": f"Texts that were never trained on, under the model before removal: {names}.",
            "base": f"The model before it was fine-tuned on the forget set: {names}.",
        }[self.kind]


def retrained(models: Mapping[str, Mapping[str, float]]) -> Reference:
    """Means over models retrained without the forget set, with other seeds or other data beside it.

    Parameters
    ----------
    models
        For each, its metrics; what not all of them were measured by is left out.

    Raises
    ------
    FailedPrecondition
        REFERENCE_MISSING: there is no model.
    """
    if not models:
        raise FailedPrecondition(
            Reason.REFERENCE_MISSING, "There is no retrained model; train one, or choose another reference."
        )
    shared = set.intersection(*(set(each) for each in models.values()))
    columns = {metric: [each[metric] for each in models.values()] for metric in sorted(shared)}
    spreads = {metric: stdev(values) for metric, values in columns.items() if len(values) > 1}
    return Reference("retrained", tuple(models), {m: fmean(v) for m, v in columns.items()}, spreads)


def proxy(
    target: Mapping[str, float],
    small_target: Mapping[str, float],
    small_retrained: Mapping[str, float],
    models: tuple[str, str],
    limits: Mapping[str, tuple[float, float]] | None = None,
) -> Reference:
    """The target's values, moved by what retraining without the forget set changed in a smaller model.

    Parameters
    ----------
    target
        Metrics of the model before removal.
    small_target, small_retrained
        Metrics of a small model of the same family, trained with the forget set and without it.
    models
        Names of the two.
    limits
        Least and largest value of a metric, such as ``{"knowmem": (0, 100)}``; values are kept within.
    """
    shared = target.keys() & small_target.keys() & small_retrained.keys()
    values = {
        metric: target[metric] + small_retrained[metric] - small_target[metric] for metric in sorted(shared)
    }
    for metric, (least, most) in (limits or {}).items():
        if metric in values:
            values[metric] = min(most, max(least, values[metric]))
    return Reference("proxy", models, values, {})


def holdout(measurement: Measurement, model: str) -> Reference:
    """Held-out texts stand for the forget set never seen: its losses should be theirs, and membership a coin's toss.

    Parameters
    ----------
    measurement
        Of the model before removal, by :class:`services.unlearning.stopping.probes.Probe`.
    model
        Its name.

    Raises
    ------
    InvalidArgument
        METRIC_MISSING: no held-out texts were measured.
    """
    values = {"auc": 0.5, "loss_gap": 0.0}
    for metric in ("nll", "em"):
        name = f"holdout_{metric}"
        if name not in measurement.values:
            message = f"{name} was not measured; give the probe held-out texts."
            raise InvalidArgument(Reason.METRIC_MISSING, message)
        values[f"forget_{metric}"] = values[name] = measurement.values[name]
    return Reference("holdout", (model,), values, {})


def base(metrics: Mapping[str, float], model: str) -> Reference:
    """The model before it was fine-tuned on the forget set: it knows nothing of it, nor of what else was learnt then.

    Its losses on the forget set are an upper bound of a retrained model's.
    """
    return Reference("base", (model,), dict(metrics), {})
