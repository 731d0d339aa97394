"""What a certificate states of a criterion: a reader with value, comparison and bound comes to the same verdict."""

import math
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palimpsest.certificates.statement import Criterion as Stated
from palimpsest.errors import InvalidArgument
from services.unlearning.metrics.scores import Definition, ItemValue, Score
from services.unlearning.removal.deciding import criterion_messages, decide
from services.unlearning.removal.stating import criterion_facts
from services.unlearning.verdicts import Criterion, Finding, Verdict, find

POINTS = st.floats(-100, 200, allow_nan=False)
MET = (Verdict.REMOVED, Verdict.UTILITY_KEPT)


def read(finding: Finding) -> list[str]:
    """Verdicts of a finding's comparisons, by a reader who has the certificate alone."""
    found = []
    for facts in criterion_facts(finding):
        stated = Stated.of(facts)
        if stated.value is None:
            found.append("not_measured")
            continue
        value, bound = Decimal(stated.value), Decimal(stated.bound)
        found.append(
            "passed" if (value >= bound if stated.comparison == ">=" else value <= bound) else "failed"
        )
        assert stated.verdict == found[-1]
    return found


def agrees(finding: Finding) -> None:
    verdicts = set(read(finding))
    if finding.verdict is Verdict.UNDECIDED:
        assert verdicts == {"not_measured"}
    elif finding.verdict in MET:
        assert verdicts == {"passed"}
    else:
        assert "failed" in verdicts
    assert verdicts


@settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.builds(
        Criterion,
        st.just("verbmem"),
        unlearned=POINTS,
        target=POINTS,
        retrained=st.lists(POINTS, min_size=1, max_size=4).map(tuple),
        error=st.floats(0, 60),
        tolerance=st.floats(0, 20),
        kind=st.sampled_from(["knowledge", "utility"]),
    )
)
def test_statement_and_verdict_agree(criterion):
    agrees(find(criterion))


@settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_they_agree_on_the_bounds_themselves(data):
    target, reference = data.draw(POINTS), data.draw(POINTS)
    kind = data.draw(st.sampled_from(["knowledge", "utility"]))
    error = data.draw(st.floats(0, 60))
    edge = find(Criterion("k", 0.0, target, (reference,), error=error, kind=kind))
    for bound in (edge.low, edge.high):
        for value in (bound, math.nextafter(bound, math.inf), math.nextafter(bound, -math.inf)):
            if math.isfinite(value):
                agrees(find(Criterion("k", value, target, (reference,), error=error, kind=kind)))


SCORES = st.lists(st.floats(0, 100, width=32), min_size=3, max_size=6)


def score(metric: str, values: list[float]) -> Score:
    items = tuple(ItemValue(f"i{at}", value, "") for at, value in enumerate(values))
    return Score(
        Definition(metric, 1, "points", "lower"), sum(values) / len(values), len(values), items=items
    )


@settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_they_agree_over_random_scores(data):
    size = data.draw(st.integers(2, 6))
    values = st.lists(st.floats(0, 100, width=32), min_size=size, max_size=size)
    models = [
        [score(metric, data.draw(values)) for metric in ("verbmem", "knowmem", "utility")]
        for _ in range(2 + data.draw(st.integers(1, 3)))
    ]
    before, after, *others = models
    decision = decide(before, after, {f"r{at}": each for at, each in enumerate(others)}, [])
    assert decision.judgement is not None
    for finding, message in zip(decision.judgement.findings, criterion_messages(decision), strict=True):
        agrees(finding)
        if finding.verdict is not Verdict.UNDECIDED:
            high = message.high if message.HasField("high") else math.inf
            assert (message.low <= message.value <= high) == (finding.verdict in MET)


@pytest.mark.parametrize("reference", [math.nan, -math.inf])
@pytest.mark.parametrize("kind", ["knowledge", "utility"])
def test_a_reference_without_a_number_decides_nothing(kind, reference):
    finding = find(Criterion("k", 50.0, 90.0, (reference,), kind=kind))
    assert finding.verdict is Verdict.UNDECIDED
    agrees(finding)


def test_a_certificate_whose_verdict_is_not_of_its_numbers_is_no_certificate():
    for verdict, value in (("passed", "16"), ("failed", "15"), ("not_measured", "15"), ("passed", None)):
        with pytest.raises(InvalidArgument):
            Stated.of({"name": "C1", "value": value, "comparison": "<=", "bound": "15", "verdict": verdict})
