"""The page of a removal request: its numbers, their targets, and that nothing said by anybody becomes markup."""

import json
import math
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.errors import DataLoss
from palimpsest.report.removal.axes import axes_of
from palimpsest.report.removal.curves import Curves, curves_section, read_curves
from palimpsest.report.removal.page import removal_page
from palimpsest.report.removal.targets import Target, target_of, targets_of
from palimpsest.report.removal.words import COMPARED, METRICS, VERDICTS, verdict_word
from services.unlearning.metrics.fluency import PERPLEXITY
from services.unlearning.metrics.muse import KNOWMEM, PRIVLEAK, UTILITY, VERBMEM
from services.unlearning.verdicts import Criterion, Verdict, find
from tests.unit.report import removals

EVIL = "</td><script>window.hit = 1</script><img src=x onerror='window.hit = 1'> & \"$id"
POINTS = st.floats(0, 100)


class Page(HTMLParser):
    """Tags, attributes, and all text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def message(finding) -> pb.Criterion:
    criterion = finding.criterion
    return pb.Criterion(
        name=criterion.name,
        verdict=pb.Verdict.Value(f"VERDICT_{finding.verdict}"),
        value=criterion.unlearned,
        before=criterion.target,
        references=criterion.retrained,
        band=finding.band,
    )


def axis(criterion: pb.Criterion):
    labels = {"verbmem": "Verbatim memory", "utility": "Utility", "perplexity": "Fluency"}
    axes = axes_of(pb.Result(criteria=[criterion]))
    return next(each for each in axes if each.label == labels[criterion.name])


@given(u=POINTS, t=POINTS, r=st.lists(POINTS, min_size=1, max_size=3))
def test_the_outer_ring_is_where_the_verdict_is_removed(u, t, r):
    finding = find(Criterion("verbmem", u, t, tuple(r)))
    found = axis(message(finding)).value
    if finding.verdict is Verdict.UNDECIDED:
        assert found is None
    elif finding.verdict is Verdict.REMOVED:
        assert found == 1.0
    elif finding.verdict is Verdict.NOT_REMOVED:
        assert found < 1.0
    else:
        # Beyond the band, if only by the last bit.
        assert found < 1.0 or math.isclose(abs(u - sum(r) / len(r)), finding.band)


@given(u=POINTS, t=POINTS, r=st.lists(POINTS, min_size=1, max_size=3))
def test_the_target_is_where_the_verdict_is_removed(u, t, r):
    finding = find(Criterion("verbmem", u, t, tuple(r)))
    target = target_of(message(finding))
    if finding.verdict is Verdict.UNDECIDED:
        return
    within = target.low <= u <= target.high
    edge = any(math.isclose(u, end, abs_tol=1e-9) for end in target)
    assert within == (finding.verdict is Verdict.REMOVED) or edge


@given(u=POINTS, t=POINTS, r=st.lists(POINTS, min_size=1, max_size=3))
def test_utility_is_at_the_ring_where_it_is_kept(u, t, r):
    finding = find(Criterion("utility", u, t, tuple(r), kind="utility"))
    found = axis(message(finding)).value
    assert (found == 1.0) == (finding.verdict is Verdict.UTILITY_KEPT) or math.isclose(
        u, sum(r) / len(r) - finding.band
    )


def test_perplexity_is_told_in_its_own_units():
    points = [-100 * math.log(perplexity) for perplexity in (22.0, 20.0, 20.0)]
    criterion = pb.Criterion(
        name="perplexity", value=points[0], before=points[1], references=[points[2]], band=5.0,
        verdict=pb.VERDICT_UTILITY_LOST,
    )  # fmt: skip
    target = target_of(criterion)
    assert target.low is None
    assert target.high == pytest.approx(20 * math.exp(0.05))
    assert axis(criterion).value == pytest.approx(20 * math.exp(0.05) / 22)


def test_targets_say_which_way():
    result = removals.request().result
    targets = targets_of(result)
    assert targets["verbmem"] == Target(15.5, 25.5)
    assert targets["verbmem"].direction(92) == "↓ down"
    assert targets["auc_min_k"] == Target(pytest.approx(0.42), pytest.approx(0.58))
    assert targets["auc_min_k"].direction(0.03) == "↑ up"
    assert targets["utility"] == Target(67.5, None)
    assert targets["utility"].direction(78) == "= stay"
    assert targets["privleak"].text() == "0"


def test_attacks_are_told_by_the_worst_that_brings_something_back():
    by_label = {each.label: each for each in axes_of(removals.request().result)}
    # int4 brings back 27 points of verbatim memory, 1 of which any reference gains too, of the 70 that were removed.
    worst = max((27 - 1) / (92 - 22), (19 - 1.5) / (88 - 41))
    assert by_label["Attack resistance"].value == pytest.approx(1 - worst)
    assert "int4/32" in by_label["Attack resistance"].why
    assert by_label["Fluency"].value is None
    assert by_label["Knowledge memory"].value == pytest.approx(1 - (41 - 23 - 6) / (88 - 23 - 6))


def test_words_are_those_of_the_room():
    assert {each.lower() for each in Verdict} == set(VERDICTS) == {verdict_word(n) for n in range(1, 9)}
    names = {each.metric for each in (VERBMEM, KNOWMEM, PRIVLEAK, UTILITY, PERPLEXITY)} | {"auc_min_k"}
    assert names == set(METRICS)
    assert set(COMPARED) == {"retrained", "holdout_calibrated", "none"}


def test_the_page_has_every_number_with_its_target():
    text = " ".join(Page(removal_page(removals.request(), read_curves(removals.curve()))).text.split())
    for expected in (
        "partly removed",
        "models trained without the forget set: never, retrained-with-a-long-name",
        "↓ down: 15.5 to 25.5",
        "↑ up: 0.42 to 0.58",
        "= stay: at least 67.5",
        "↓ at most 6.5 (references 1.5)",
        "24.0 to 30.0",
        "brings it back",
        "412 pieces of text in 81,234 bytes",
        "sha256:" + "cd" * 32,
        "palimpsest unlearn verify proof/certificate.json --log proof/log.jsonl",
        "The weights kept are those of step 110. Training ended by forget_match: forget_em 17.9 (reference 18.2).",
        "Scalability and sustainability are properties of a series",
    ):
        assert expected in text


def test_nothing_becomes_markup_and_nothing_is_loaded():
    found = removals.request()
    result = found.result
    found.plan.references[0] = found.plan.parameters[EVIL] = found.plan.model = found.plan.stopping.rule = (
        EVIL
    )
    result.stores[0].name = result.measurements[0].unit = result.measurements[0].metric = EVIL
    result.measurements[8].model = result.measurements[-1].convention = result.criteria[0].name = EVIL
    result.attacks[0].attack = result.attacks[0].metric = result.forget.artifact = result.reference = EVIL
    curves = json.loads(removals.curve()) | {"ended": EVIL}
    for look in curves["looks"]:
        look["values"][EVIL] = 1.0
    shown = removal_page(found, read_curves(json.dumps(curves).encode()))
    page = Page(shown)
    assert not {"script", "img", "link", "iframe", "object"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "href")]
    assert "url(" not in shown
    assert "@import" not in shown
    assert page.text.count("window.hit = 1") >= 10


@pytest.mark.parametrize("verdict", ["DIVERGED", "UNDECIDED"])
def test_a_result_with_nothing_measured_is_a_page_too(verdict):
    found = pb.RemovalRequest(name="removalRequests/x", state=pb.REMOVAL_STATE_SUCCEEDED)
    found.result.verdict = pb.Verdict.Value(f"VERDICT_{verdict}")
    text = Page(removal_page(found)).text
    assert verdict.lower() in text
    assert "no certificate" in text
    assert "nothing to draw" in text
    assert "Nothing was trained by steps." in text


def test_a_request_taken_back_says_that_its_certificate_is_revoked():
    found = removals.request()
    assert "Revoked" not in Page(removal_page(found)).text
    found.state = pb.REMOVAL_STATE_ROLLED_BACK
    assert "Revoked" in Page(removal_page(found)).text


def test_long_runs_are_drawn_by_means_and_broken_ones_with_gaps():
    long = curves_section(Curves(losses=tuple(float(n) for n in range(1000))))
    assert "Means of 4 steps each." in long
    assert long.count("L") >= 249
    broken = curves_section(Curves(losses=(3.0, 2.0, None, 1.0, 0.5)))
    assert broken.count("M") == 2
    assert "not kept" in curves_section(None)
    assert "Nothing was trained" in curves_section(Curves())


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"losses": [true, "x"]}', b'{"losses": [], "looks": [1]}']
)
def test_curves_that_cannot_be_read_say_so(data):
    with pytest.raises(DataLoss, match="cannot be read"):
        read_curves(data)
