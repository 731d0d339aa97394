"""The curves of a request's training run: numbers by step, and neither texts nor ids."""

import json
import math
from typing import Any

from palimpsest.training.history import History
from services.unlearning.stopping.watch import Choice

CURVE_TYPE = "application/json"
LOOKS = "looks.json"
"""The file of a request's working folder that has what :func:`looks_of` returns."""


def looks_of(choice: Choice) -> dict[str, Any]:
    """What a stopping rule measured, as JSON-able data; losses of single texts are left out.

    Parameters
    ----------
    choice
        What the run ended with.
    """
    return {
        "looks": [{"step": each.step, "values": dict(each.values)} for each in choice.history],
        "kept_step": choice.measurement.step,
        "ended": f"{choice.decision.rule}: {choice.decision.detail}" if choice.decision else "",
    }


def curve_of(history: History, looks: dict[str, Any] | None) -> bytes:
    """The curves as the artefact has them; empty where nothing was trained.

    Parameters
    ----------
    history
        Of the run.
    looks
        What :func:`looks_of` returned; None: the plan has no stopping rule.
    """
    if not history.steps:
        return b""
    facts = {name: getattr(history, name) for name in ("losses", "rates", "norms")}
    return json.dumps(_finite(facts | (looks or {}))).encode()


def _finite(value: Any) -> Any:
    """The same with None for numbers that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return value
