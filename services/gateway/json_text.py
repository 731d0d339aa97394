"""JSON as the gateway writes it."""

import json
from typing import Any


def dumps(value: Any) -> str:
    """Compact JSON in UTF-8; a number that is not finite is a bug, not ``NaN``."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
