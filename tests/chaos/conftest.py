"""What is measured on the way: how long each promise with a bound took to be kept, summed up after the run."""

import time
from collections import defaultdict
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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how often each was tried and what the longest took."""
    measured: dict[str, list[float]] = defaultdict(list)
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties:
            if report.when == "call" and "asked <=" in name:
                test = report.nodeid.rpartition("::")[2].partition("[")[0]
                measured[f"{test}: {name}"].append(float(value))
    if measured:
        terminalreporter.section("promises with a bound")
    for name, values in measured.items():
        terminalreporter.line(f"{name}: {len(values)} times, longest {max(values):.1f} s")
