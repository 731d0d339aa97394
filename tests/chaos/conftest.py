"""How long each promise with a bound took to be kept: measured here, summed up after the run."""

import time
from collections.abc import Callable

import pytest

from tests.waiting import until

Within = Callable[[str, float, Callable[[], object], float], None]
"""``within(name, bound, condition, since)``: see the fixture."""


@pytest.fixture
def within(record_property: Callable[[str, object], None]) -> Within:
    """Wait until a condition holds, at most ``bound`` seconds, and note how long after ``since`` it did."""

    def wait(name: str, bound: float, condition: Callable[[], object], since: float) -> None:
        until(condition, max(0.0, bound - (time.monotonic() - since)))
        record_property(f"{name}, asked <= {bound:g} s", round(time.monotonic() - since, 2))

    return wait
