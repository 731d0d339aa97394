"""What is measured on the way: how long each promise with a bound took to be kept, summed up after the run."""

from collections import defaultdict

import pytest


def summary(reports: list[pytest.TestReport]) -> list[str]:
    """A line for each promise: how often it was tried, and what the longest took."""
    measured: dict[str, list[float]] = defaultdict(list)
    for report in reports:
        for name, value in report.user_properties:
            if report.when == "call" and "asked <=" in name:
                test = report.nodeid.rpartition("::")[2].partition("[")[0]
                measured[f"{test}: {name}"].append(float(value))
    return [f"{name}: {len(values)} times, longest {max(values):.1f} s" for name, values in measured.items()]
