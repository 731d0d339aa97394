"""What a certificate states of a request: its results as canonical JSON takes them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.models import ModelRecord
from services.unlearning.attesting import attack_facts, evidence_digest, number_text, run_facts
from services.unlearning.corpora.checks import LEAST_P
from services.unlearning.removal.deciding import Decision
from services.unlearning.removal.plan import ResolvedPlan
from services.unlearning.removal.reporting import is_measured
from services.unlearning.verdicts import Finding, Verdict

_OUTCOMES = {Verdict.REMOVED: "succeeded", Verdict.NOT_REMOVED: "failed", Verdict.UTILITY_LOST: "failed"}


def stores_digest(stores: Sequence[pb.StoreEvidence]) -> str:
    """Digest of the evidence of all stores."""
    return evidence_digest({"stores": [_store_evidence(each) for each in stores]})


def statement(plan: ResolvedPlan, result: pb.Result, decision: Decision, made: ModelRecord) -> dict[str, Any]:
    """What a certificate states of a request, without issuer, times and fixed sentences.

    A statement says "succeeded" only if every criterion, attack and look at an earlier request has passed; what could
    not be compared with anything is "partial", as is what was over-unlearned, and what an attack could not be measured
    on.
    """
    passed = not any(each.failed for each in result.attacks)
    passed = passed and all(_rechecked(each) == "passed" for each in result.earlier_requests)
    criteria = _criteria(decision)
    outcome = _OUTCOMES.get(decision.verdict, "partial")
    if outcome == "succeeded" and not (passed and all(each["verdict"] == "passed" for each in criteria)):
        outcome = "partial"
    configuration = {
        "training": _decimal(plan.recipe.facts()),
        "parameters": plan.chosen_parameters(),
        "stopping": {"rule": plan.plan.stopping.rule, "every_steps": plan.plan.stopping.every_steps},
        "attacks": sorted({each.attack for each in result.attacks}),
        "attack_settings": _decimal(plan.attacks.facts()),
    }
    if plan.start is not None:
        configuration["start"] = plan.start.fingerprint
    if plan.teacher is not None:
        configuration["teacher"] = plan.teacher.fingerprint
    if plan.replay is not None:
        configuration["replay"] = {**vars(plan.replay), "kept": result.replayed}
    if result.trained_together:
        configuration["trained_together"] = [each.partition("/")[2] for each in result.trained_together]
    if result.trials:
        configuration["search"] = {
            "tuned_on": "tune",
            "certified_on": "certify",
            "trials": [_trial(each) for each in result.trials],
        }
    return {
        "manifest": {
            "digest": result.forget.manifest,
            "counts": {
                "documents": result.forget.documents,
                "questions": result.forget.questions,
                "tokens": result.forget.tokens,
            },
        },
        "models": {
            "before": plan.model.fingerprint,
            "after": made.fingerprint,
            "base": plan.lineage,
            "tokenizer": plan.model.tokenizer_fingerprint,
        },
        "method": {
            "algorithm": plan.algorithm.id,
            "configuration": configuration,
            "configuration_digest": evidence_digest(configuration),
        },
        "run": run_facts(plan.recipe.seed, plan.device),
        "reference": decision.reference,
        "metrics": [*_metrics(result), *_lengths(plan)],
        "attacks": attack_facts([_attack(each) for each in result.attacks]),
        "stores": [
            {
                "name": each.name,
                "kind": each.name.partition("/")[0],
                "purged": each.deleted,
                "absent": each.absent,
                "evidence": evidence_digest(_store_evidence(each)),
            }
            for each in result.stores
        ],
        "earlier_requests": [_recheck(each) for each in result.earlier_requests],
        "criteria": criteria,
        "outcome": outcome,
    }


def _criteria(decision: Decision) -> list[dict[str, Any]]:
    findings = decision.judgement.findings if decision.judgement else ()
    if not findings:
        return [
            {
                "name": "references", "value": None, "comparison": ">=", "bound": "1",
                "verdict": "not_measured",
            }
        ]  # fmt: skip
    return [each for finding in findings for each in criterion_facts(finding)]


def criterion_facts(finding: Finding) -> list[dict[str, Any]]:
    """A criterion as one comparison for each of its bounds, all of which a value meets that is as it should be.

    The verdict of each is of its value and its bound alone, so that a reader comes to the same. Where the metric cannot
    tell the model before from the references, no value is compared with anything.
    """
    decided = finding.verdict not in (Verdict.UNDECIDED, Verdict.DIVERGED)
    value = finding.criterion.unlearned
    bounds = [(">=", finding.low, value >= finding.low)]
    if finding.criterion.kind != "utility":  # of which there is never too much
        bounds.append(("<=", finding.high, value <= finding.high))
    return [
        {
            "name": finding.criterion.name,
            "value": number_text(value) if decided else None,
            "comparison": comparison,
            "bound": number_text(bound) or "0",
            "verdict": ("passed" if holds else "failed") if decided else "not_measured",
        }
        for comparison, bound, holds in bounds
    ]


def _metrics(result: pb.Result) -> list[dict[str, Any]]:
    references: dict[str, list[float]] = {}
    for each in result.measurements:
        if each.model not in ("before", "after"):
            references.setdefault(each.metric, []).append(each.value)
    half = ".certify" if result.trials else ""
    found = []
    for each in result.measurements:
        if each.model != "after":
            continue
        low = number_text(each.low) if each.HasField("low") else None
        high = number_text(each.high) if each.HasField("high") else None
        whole = low is not None and high is not None
        means = references.get(each.metric)
        found.append(
            {
                "name": each.metric,
                "split": ("retain" if each.metric in ("utility", "perplexity") else "forget") + half,
                "value": number_text(each.value),
                "low": low if whole else None,
                "high": high if whole else None,
                "confidence": "0.95" if whole else None,
                "n": each.count,
                "reference": number_text(sum(means) / len(means)) if means else None,
            }
        )
    return found


def _lengths(plan: ResolvedPlan) -> list[dict[str, Any]]:
    """Whether length alone tells forget and holdout set apart: a p-value, and as its reference the least that is fine.

    It warns: below it, metrics that compare the two sets say little of membership.
    """
    if plan.lengths is None:
        return []
    return [
        {
            "name": "length_match_p",
            "split": "holdout",
            "value": number_text(plan.lengths.p),
            "low": None,
            "high": None,
            "confidence": None,
            "n": plan.lengths.documents,
            "reference": number_text(LEAST_P),
        }
    ]


def _trial(each: pb.Trial) -> dict[str, Any]:
    numbers = {
        "learning_rate": each.learning_rate,
        "retain_weight": each.retain_weight,
        "beta": each.beta,
        "cost": each.cost,
    }
    return {"round": each.round, "steps": each.steps, "chosen": each.chosen} | _decimal(numbers)


def _attack(row: pb.AttackResult) -> dict[str, Any]:
    gains = row.reference_gains
    measured = is_measured(row)
    verdict = "failed" if row.failed else "passed"
    return {
        "name": row.attack,
        "precision": row.precision,
        "metric": row.metric,
        "value": number_text(row.gain) if measured else None,
        "reference": number_text(math.fsum(gains) / len(gains)) if gains else None,
        "bound": number_text(row.bound) if measured else None,
        "n": row.items,
        "verdict": verdict if measured else "not_measured",
    }


def _recheck(each: pb.EarlierRequest) -> dict[str, Any]:
    return {
        "request": each.name.partition("/")[2],
        "metric": each.metric or "forget_set",
        "then": number_text(each.then) if each.metric else None,
        "now": number_text(each.now) if each.HasField("now") else None,
        "verdict": _rechecked(each),
    }


def _rechecked(each: pb.EarlierRequest) -> str:
    if not each.HasField("now"):
        return "not_measured"
    return "failed" if each.reemerged else "passed"


def _store_evidence(each: pb.StoreEvidence) -> dict[str, Any]:
    return {
        "name": each.name, "deleted": each.deleted, "missing": each.missing, "shingles": each.shingles,
        "scanned_bytes": each.scanned_bytes, "absent": each.absent,
    }  # fmt: skip


def _decimal(value: Any) -> Any:
    """Facts with floats as decimal text, as canonical JSON wants them."""
    if isinstance(value, float):
        return number_text(value) or "none"
    if isinstance(value, Mapping):
        return {key: _decimal(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_decimal(each) for each in value]
    return value
