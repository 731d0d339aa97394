"""The verdict of a request: its measurements against those of models that never knew."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from services.unlearning.attacks.table import Row
from services.unlearning.metrics.scores import Score
from services.unlearning.removal.measuring import values_of
from services.unlearning.verdicts import Criterion, Judgement, Verdict, judge

TOLERANCE = 5.0
"""Points of 100 that are of no account."""
_CHANCE = 0.5
"""Membership AUC where nothing can be told: what the forget set should have, if nothing better is known."""


@dataclass(frozen=True)
class Decision:
    """What was found.

    Attributes
    ----------
    verdict
        Over all criteria and attacks.
    judgement
        Of the criteria; None where there was nothing to compare with.
    reference
        What it was compared with, as certificates name it.
    """

    verdict: Verdict
    judgement: Judgement | None
    reference: str


def decide(
    before: Sequence[Score],
    after: Sequence[Score],
    references: Mapping[str, Sequence[Score]],
    attacks: Sequence[Row],
    *,
    reemerged: bool = False,
) -> Decision:
    """Judge a model.

    Without references its membership score is judged alone, against chance: held-out texts stand for a forget set that
    was never seen. What is to be kept is then compared with the model before, so that a model which says nothing any
    more, and whose membership score is that of chance, does not pass. Where an attack brings back what is no longer
    shown, REMOVED becomes PARTLY_REMOVED; one that could not be measured changes nothing.

    Parameters
    ----------
    before, after
        Of the two models, the same metrics in the same order.
    references
        Of models trained without the forget set, by their ids.
    attacks
        What attacks brought back.
    reemerged
        What an earlier request had removed has come back. It counts as a criterion that is PARTLY_REMOVED.
    """
    criteria = [
        criterion
        for number, score in enumerate(after)
        if (criterion := _criterion(before[number], score, [each[number] for each in references.values()]))
    ]
    if not criteria:
        return Decision(Verdict.PARTLY_REMOVED if reemerged else Verdict.UNDECIDED, None, "none")
    calibrated = any(criterion.kind == "knowledge" for criterion in criteria)
    judgement = judge(criteria)
    verdict = judgement.verdict
    if verdict is Verdict.REMOVED and any(fails(row) for row in attacks):
        verdict = Verdict.PARTLY_REMOVED
    if reemerged:
        verdict = min(verdict, Verdict.PARTLY_REMOVED, key=list(Verdict).index)
    without = "holdout_calibrated" if calibrated else "none"
    return Decision(verdict, judgement, "retrained" if references else without)


def fails(row: Row) -> bool:
    """Whether an attack brought back more than the references gain; without them, enough to count as knowing again.

    One that could not be measured on the model speaks neither for nor against it.
    """
    if not row.measured:
        return False
    return row.recovered if row.tolerated is None else not row.tolerated


def utility_loss(before: Sequence[Score], after: Sequence[Score]) -> float | None:
    """Points of utility that a model has less than the one before; None where it was not measured of both."""
    points = [
        {each.metric: _kept(each) for each in scores if each.metric in ("utility", "perplexity")}
        for scores in (before, after)
    ]
    found = [points[0][name] - value for name, value in points[1].items() if name in points[0]]
    return found[0] if found and math.isfinite(found[0]) else None


def _kept(score: Score) -> float:
    """Points of what is kept; of a perplexity in nats a token, times 100 and negated: higher is better in both."""
    return -100 * math.log(score.value) if score.metric == "perplexity" else score.value


def verdict_number(verdict: Verdict) -> int:
    """The contract's number of a verdict."""
    return pb.Verdict.Value(f"VERDICT_{verdict}")


def criterion_messages(decision: Decision) -> list[pb.Criterion]:
    """The criteria as the contract has them."""
    findings = decision.judgement.findings if decision.judgement else ()
    return [
        pb.Criterion(
            name=each.criterion.name,
            verdict=verdict_number(each.verdict),  # type: ignore[arg-type]
            value=each.criterion.unlearned,
            before=each.criterion.target,
            references=each.criterion.retrained,
            band=each.band,
            low=each.low if math.isfinite(each.low) else None,
            high=each.high if math.isfinite(each.high) else None,
        )
        for each in findings
    ]


def _criterion(before: Score, after: Score, references: Sequence[Score]) -> Criterion | None:
    name = after.metric
    if not references:
        if name == "auc_min_k":
            return Criterion(
                name, 100 * after.value, 100 * before.value, (100 * _CHANCE,), _auc_error(after), TOLERANCE
            )
        if name not in ("utility", "perplexity"):
            return None
        references = [before]
    if name == "perplexity":
        unlearned, target, *retrained = (_kept(each) for each in (after, before, *references))
        return Criterion(name, unlearned, target, tuple(retrained), 0.0, TOLERANCE, "utility")
    if name == "auc_min_k":
        values = tuple(100 * each.value for each in references)
        return Criterion(name, 100 * after.value, 100 * before.value, values, _auc_error(after), TOLERANCE)
    kind = "utility" if name == "utility" else "knowledge"
    if after.n < 2:
        values = tuple(each.value for each in references)
        return Criterion(name, after.value, before.value, values, 0.0, TOLERANCE, kind)
    return Criterion.of_items(
        name,
        values_of(after),
        values_of(before),
        [values_of(each) for each in references],
        tolerance=TOLERANCE,
        kind=kind,
    )


def _auc_error(score: Score) -> float:
    """Standard error of an AUC of 1/2 over so many items (Hanley and McNeil 1982), in points of 100."""
    forget = sum(item.group == "forget" for item in score.items)
    holdout = len(score.items) - forget
    return 100 * math.sqrt((forget + holdout + 1) / (12 * forget * holdout))
