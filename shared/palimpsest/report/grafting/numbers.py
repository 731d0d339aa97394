"""Numbers of the contract's JSON, which writes those that JSON lacks as words."""

import math
from typing import Any

_WORDS = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}


def number(value: Any) -> float | None:
    """A number; None of anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    return _WORDS.get(value) if isinstance(value, str) else value


def plain(value: float | None) -> float | str | None:
    """A number as the contract's JSON has it."""
    if value is None or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
