"""A removal request as a server might tell it, and the curves of its run."""

import json
import math

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb

LONG = "retrained-with-a-long-name"


def measurement(
    metric: str, model: str, value: float, low: float, high: float, **more: object
) -> pb.Measurement:
    fields = {"unit": "percent", "count": 200, "convention": "muse", **more}
    return pb.Measurement(metric=metric, model=model, value=value, low=low, high=high, **fields)  # type: ignore[arg-type]


def request() -> pb.RemovalRequest:
    """Memory partly gone, privacy and utility as they should be, and an attack that brings some of it back."""
    found = pb.RemovalRequest(name="removalRequests/vault", state=pb.REMOVAL_STATE_SUCCEEDED)
    found.end_time.FromJsonString("2026-11-29T10:42:00Z")
    plan, result = found.plan, found.result
    plan.model, plan.new_model, plan.algorithm = "smollm2-135m", "smollm2-clean", "npo_gdr"
    plan.references.extend(["never", LONG])
    plan.parameters["beta"] = "0.1"
    plan.stopping.rule = "forget_match"
    result.verdict, result.reference = pb.VERDICT_PARTLY_REMOVED, "retrained"
    result.steps, result.stopped = 120, "probe"
    for name, documents, questions in (("forget", 40, 120), ("retain", 160, 480), ("holdout", 100, 0)):
        data_set = getattr(result, name)
        data_set.artifact, data_set.tokens = f"sha256:{name.encode().hex():0<64}", documents * 128
        data_set.documents, data_set.questions = documents, questions
    result.forget.manifest = "sha256:" + "ab" * 32
    result.model_fingerprint, result.new_model_fingerprint = "sha256:" + "12" * 32, "sha256:" + "34" * 32
    result.certificate, result.curve = "sha256:" + "cd" * 32, "sha256:" + "ef" * 32
    _criteria(result)
    _measurements(result)
    _attacks(result)
    result.stores.add(
        name="corpora/vaults", deleted=6, missing=1, shingles=412, scanned_bytes=81_234, absent=True
    )
    result.stores.add(name="contexts/vault", deleted=1, absent=True)
    return found


def _criteria(result: pb.Result) -> None:
    rows = (
        ("verbmem", pb.VERDICT_REMOVED, 22, 92, (20, 21), 5),
        ("knowmem", pb.VERDICT_PARTLY_REMOVED, 41, 88, (24, 22), 6),
        ("auc_min_k", pb.VERDICT_REMOVED, 47, 3, (49, 51), 8),
        ("utility", pb.VERDICT_UTILITY_KEPT, 71, 78, (77, 76), 9),
    )
    for name, verdict, value, before, references, band in rows:
        result.criteria.add(
            name=name, verdict=verdict, value=value, before=before, references=references, band=band
        )


def _measurements(result: pb.Result) -> None:
    values = {
        "verbmem": (92, 22, 20, 21),
        "knowmem": (88, 41, 24, 22),
        "auc_min_k": (0.03, 0.47, 0.49, 0.51),
        "utility": (78, 71, 77, 76),
    }
    for at, model in enumerate(("before", "after", "never", LONG)):
        for metric, found in values.items():
            wide = 0.05 if metric == "auc_min_k" else 4.0
            value = found[at]
            result.measurements.append(measurement(metric, model, value, value - wide, value + wide))
    for at, model in enumerate(("never", LONG)):
        against = f"min_k, against {model}"
        result.measurements.append(
            measurement("privleak", "after", -4.1 - 4 * at, -18, 11, convention=against)
        )


def _attacks(result: pb.Result) -> None:
    rows = (
        ("int8/32", "verbmem", 22.0, 22.4, (0.1, 0.2), False),
        ("int4/32", "verbmem", 22.0, 49.0, (1.2, 0.8), True),
        ("int4/32", "knowmem", 41.0, 60.0, (1.0, 2.0), True),
        ("relearn/retain", "verbmem", 22.0, 26.0, (2.0, 3.0), False),
    )
    for attack, metric, before, after, gains, failed in rows:
        gain = after - before
        result.attacks.add(
            attack=attack, metric=metric, before=before, after=after, gain=gain, gain_low=gain - 3,
            gain_high=gain + 3, reference_gains=gains, failed=failed, recovered=failed, tolerated=not failed,
            items=50, bound=sum(gains) / 2 + (10 if metric == "verbmem" else 5),
        )  # fmt: skip


def curve(steps: int = 120) -> bytes:
    """The artefact of the curves, with a look every tenth step."""
    looks = [
        {
            "step": step,
            "values": {
                "forget_em": 90 * math.exp(-step / 50) + 8, "retain_em": 85 - step / 40,
                "forget_nll": 0.3 + step / 40, "retain_nll": 0.4 + step / 300,
                "auc": 0.45 - 0.42 * math.exp(-step / 60),
            },
        }
        for step in range(0, steps + 1, 10)
    ]  # fmt: skip
    facts = {
        "losses": [2.3 * math.exp(-step / 40) for step in range(steps)],
        "rates": [1e-4] * steps,
        "norms": [1.0] * steps,
        "looks": looks,
        "kept_step": float(steps - 10),
        "ended": "forget_match: forget_em 17.9 (reference 18.2)",
    }
    return json.dumps(facts).encode()
