"""Results of a request as messages, as files for a later attempt, and as a certificate states them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from services.unlearning.attacks.table import UNLEARNED, Row
from services.unlearning.metrics.scores import Definition, ItemValue, Score
from services.unlearning.removal.datasets.sets import EncodedSet
from services.unlearning.removal.deciding import (
    Decision,
    criterion_messages,
    fails,
    utility_loss,
    verdict_number,
)
from services.unlearning.removal.earlier import baseline
from services.unlearning.removal.measuring import leaks
from services.unlearning.removal.plan import ResolvedPlan
from services.unlearning.requests.budget import budget_of, lost
from services.unlearning.requests.history import Predecessors


def set_message(encoded: EncodedSet | None, manifest: str = "") -> pb.DataSet:
    """A data set as the contract has it; empty for none."""
    if encoded is None:
        return pb.DataSet()
    return pb.DataSet(
        artifact=encoded.source.artifact,
        documents=len(encoded.source.documents),
        questions=len(encoded.source.questions),
        tokens=encoded.total,
        manifest=manifest,
    )


def begun(plan: ResolvedPlan, manifest: str, stores: Sequence[pb.StoreEvidence], run: pb.Result) -> pb.Result:
    """What is known of a request once its model is trained; ``run`` has steps, curve and why it stopped."""
    found = pb.Result(
        forget=set_message(plan.forget, manifest),
        retain=set_message(plan.sets.get("retain")),
        holdout=set_message(plan.sets.get("holdout")),
        utility=set_message(plan.sets.get("utility")),
        model_fingerprint=plan.model.fingerprint,
        start_fingerprint=plan.start.fingerprint if plan.start else "",
        teacher_fingerprint=plan.teacher.fingerprint if plan.teacher else "",
        stores=stores,
        lengths=lengths_message(plan),
    )
    found.MergeFrom(run)
    return found


def lengths_message(plan: ResolvedPlan) -> pb.LengthMatch | None:
    """How the lengths of forget and holdout set compare, as the contract has it."""
    if plan.lengths is None:
        return None
    return pb.LengthMatch(p_value=plan.lengths.p, matched=plan.lengths.matched)


def add_measured(
    result: pb.Result,
    before: Sequence[Score],
    after: Sequence[Score],
    references: Mapping[str, Sequence[Score]],
) -> None:
    """Add the measurements of every model, and the leaks of the new one against each reference."""
    for model, scores in {"before": before, "after": after, **references}.items():
        result.measurements.extend(_measurement(model, score, score.convention) for score in scores)
    result.recheck.extend(baseline(after))
    loss = utility_loss(before, after)
    if loss is not None:
        result.utility_loss = loss
    for name, score in leaks(after, references).items():
        result.measurements.append(_measurement("after", score, f"min_k, against {name}"))


def _measurement(model: str, score: Score, convention: str) -> pb.Measurement:
    low, high = score.interval or (None, None)
    return pb.Measurement(
        metric=score.metric,
        model=model,
        value=score.value,
        low=low,
        high=high,
        unit=score.definition.unit,
        count=score.n,
        convention=convention,
    )


def add_attacks(result: pb.Result, rows: Sequence[Row]) -> None:
    """Add the table of attacks."""
    for row in rows:
        found = pb.AttackResult(
            attack=row.attack,
            metric=row.metric,
            before=row.before,
            reference_gains=row.retrained,
            failed=fails(row),
            precision=row.precision,
            not_measured=[
                pb.NotMeasured(model=each.model, reason=each.failure.reason, message=each.failure.message)
                for each in row.unmeasured
            ],
        )
        if row.injected is not None:
            found.injected = row.injected
        if row.measured:
            found.after, found.items, found.recovered = row.after, row.gain.items, row.recovered
            found.gain, found.gain_low, found.gain_high = row.gain.value, row.gain.low, row.gain.high
            found.bound = row.bound
            if row.tolerated is not None:
                found.tolerated = row.tolerated
        result.attacks.append(found)


def add_past(
    result: pb.Result,
    plan: ResolvedPlan,
    earlier: Sequence[pb.EarlierRequest],
    past: Predecessors,
    together: Sequence[str],
) -> None:
    """Add what became of what earlier requests removed, and what all of them together have cost.

    Those that the model was trained together for are no other requests: it was trained on their data too.
    """
    result.earlier_requests.extend(earlier)
    result.other_requests = past.others_than(together)
    result.utility_budget = budget_of(plan.plan, past)
    if result.HasField("utility_loss"):
        result.total_utility_loss = lost(past) + result.utility_loss


def is_measured(row: pb.AttackResult) -> bool:
    """Whether a row of a result says anything of the model that was made."""
    return all(each.model != UNLEARNED for each in row.not_measured)


def add_decision(result: pb.Result, decision: Decision) -> None:
    """Add the verdict and what it rests on."""
    result.verdict = verdict_number(decision.verdict)  # type: ignore[assignment]
    result.criteria.extend(criterion_messages(decision))
    result.reference = decision.reference


def scores_to_json(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Scores as a later attempt reads them; ids and numbers, no text."""
    return [asdict(score) for score in scores]


def scores_from_json(found: Sequence[Mapping[str, Any]]) -> list[Score]:
    """Read what ``scores_to_json`` wrote."""
    return [
        Score(
            **{
                **each,
                "definition": Definition(**each["definition"]),
                "interval": tuple(each["interval"]) if each["interval"] else None,
                "items": tuple(ItemValue(**item) for item in each["items"]),
            }
        )
        for each in found
    ]
