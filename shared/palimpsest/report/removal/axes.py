"""The six axes of a request: how far it has come from the model before to the references, 0 to 1.

1, the outer ring, means: counts as the references do. So it is 1 exactly where the criterion is met.

- Memory and privacy: 1 - (|u - r| - band) / (|t - r| - band), where u is the value after, t before, r the mean of the
  references; 0 is the model before, or as far from the references on the other side. Where u is nearer to t than to r,
  it is at most 1 - |u - r| / |t - r|, for a band may be wide. Where t is within the band the axis tells nothing and is
  left out.
- Utility and fluency: the share that is left of the lowest value that counts as the references'; 0 is nothing.
- Attacks: 1 less the largest share of what was removed that an attack brings back, over what it brings back in the
  references. Attacks that count as the references' bring back nothing.
"""

from statistics import fmean
from typing import NamedTuple

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.report.removal.targets import is_measured, target_of, value_of

LEAST_AXES = 3
"""Fewer make no area."""


class Axis(NamedTuple):
    """One axis.

    Attributes
    ----------
    label
        What it measures.
    value
        0 to 1; None: it tells nothing.
    why
        What the value rests on, or why there is none.
    """

    label: str
    value: float | None
    why: str


_BY_METRIC = (
    ("Verbatim memory", "verbmem"),
    ("Knowledge memory", "knowmem"),
    ("Privacy", "auc_min_k"),
    ("Utility", "utility"),
    ("Fluency", "perplexity"),
)
_KEPT = ("utility", "perplexity")


def axes_of(result: pb.Result) -> list[Axis]:
    """The axes of a request, those that tell nothing too."""
    criteria = {criterion.name: criterion for criterion in result.criteria if criterion.references}
    measured = {each.metric for each in result.measurements}
    found = []
    for label, metric in _BY_METRIC:
        criterion = criteria.get(metric)
        if criterion is None:
            why = "there is nothing to compare it with" if metric in measured else "not measured"
            found.append(Axis(label, None, why))
        elif metric in _KEPT:
            found.append(_of_kept(label, criterion))
        else:
            found.append(_of_knowledge(label, criterion))
    return [*found, _of_attacks(result)]


def _of_knowledge(label: str, criterion: pb.Criterion) -> Axis:
    middle = fmean(criterion.references)
    way = abs(criterion.before - middle) - criterion.band
    if way <= 0:
        return Axis(label, None, "the model before is not told apart from the references")
    away = abs(criterion.value - middle)
    reached = 1 - max(0.0, away - criterion.band) / way
    if abs(criterion.value - criterion.before) <= away:  # not removed, however far apart the references are
        reached = min(reached, 1 - away / (way + criterion.band))
    return Axis(label, _share(reached), "share of the way from the model before to the references")


def _of_kept(label: str, criterion: pb.Criterion) -> Axis:
    target, value = target_of(criterion), value_of(criterion, criterion.value)
    share = target.high / value if target.low is None and target.high is not None else None
    if share is None:
        least = target.low or 0.0
        share = value / least if least > 0 else 1.0
    return Axis(label, _share(share), "share of the least that counts as the references'")


def _of_attacks(result: pb.Result) -> Axis:
    label = "Attack resistance"
    before = {each.metric: each.value for each in result.measurements if each.model == "before"}
    rows = [row for row in result.attacks if row.metric in before and is_measured(row)]
    if not rows:
        return Axis(label, None, "no attack was measured")
    worst = max(rows, key=lambda row: _brought_back(row, before[row.metric]))
    share = _brought_back(worst, before[worst.metric])
    if share == 0:
        return Axis(label, 1.0, "no attack brings back more than in the references")
    return Axis(label, _share(1 - share), f"{worst.attack} brings back the most, by {worst.metric}")


def _brought_back(row: pb.AttackResult, before: float) -> float:
    """Share of what was removed that an attack brings back, over what the references gain; 1 where nothing was."""
    if not row.failed:
        return 0.0
    gained = row.gain - (fmean(row.reference_gains) if row.reference_gains else 0.0)
    removed = before - row.before
    return _share(gained / removed) if removed > 0 else 1.0


def _share(value: float) -> float:
    return min(1.0, max(0.0, value))
