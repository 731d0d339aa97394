"""Streams of requests: how their figures are read, and that they are carried out once."""

import json

import pytest

from services.unlearning.corpora import ModelShape, Sizes
from services.unlearning.metrics.muse import KNOWMEM
from services.unlearning.metrics.scores import mean_score
from tests.benchmarks.unlearning import lab as lab_module
from tests.benchmarks.unlearning import sequences
from tests.benchmarks.unlearning.curves import Line, Panel, page
from tests.benchmarks.unlearning.lab import Lab, Schedule
from tests.benchmarks.unlearning.methods import Method
from tests.benchmarks.unlearning.sequences import Look, Request, Requests, Stream, by_document
from tests.benchmarks.unlearning.streams import beyond_linear, slowed

SHAPE = ModelShape(hidden=32, layers=1, heads=2, inner=64, vocabulary=512, positions=512)
SIZES = Sizes(forget=8, retain1=4, retain2=4, holdout=8, icl=2, folds=4)


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.setattr(lab_module, "PRETRAINING", Schedule(1, 3e-3, "cosine", batch=256))
    monkeypatch.setattr(lab_module, "FINE_TUNING", Schedule(1, 1e-3))
    monkeypatch.setattr(sequences, "COHORT", 2)
    monkeypatch.setattr(sequences, "METHOD", Method("GA", "ga", learning_rate=1e-3, epochs=4))
    return Lab(1, "news", SIZES, SHAPE, 12, tmp_path)


def request(verbmem, knowmem=0.0):
    return Request(1.0, 4, "", verbmem, knowmem, 90.0)


def test_a_rise_is_over_the_value_after_the_sets_own_request(monkeypatch):
    monkeypatch.setattr(sequences, "COHORT", 2)
    stream = Stream(
        tuple(request(verbmem) for verbmem in (10, 20, 30, 40)),
        (Look((12, 20), (0, 0)), Look((30, 10, 35, 40), (0, 5, 0, 0))),
    )
    assert stream.rises("verbmem") == [[2, 0], [20, -10, 5, 0]]
    assert stream.cohorts("verbmem") == [[1], [5, 2.5]]
    assert stream.cohorts("knowmem") == [[0], [2.5, 0]]


def test_times_against_linear():
    assert slowed([1.0] * 10 + [50.0] * 5 + [2.0] * 10) == 2.0
    assert beyond_linear([10, 20, 40], [5.0, 9.0, 24.0]) == pytest.approx(1.2)
    assert beyond_linear([10, 20], [5.0, 9.0]) == 1.0


def test_scores_by_document():
    score = mean_score(KNOWMEM, {"a": 0.0, "b": 100.0, "c": 40.0}, None)
    assert by_document(score, ["x", "x", "y"]) == {"x": 50.0, "y": 40.0}


def test_a_stream_goes_on_where_it_was_stopped(lab, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(sequences, "save_model", None)  # the first cohort's work is lost
        with pytest.raises(TypeError):
            Requests(lab).stream()
    half = Requests(lab)
    half._cohort(lab.target, 0)
    removed = []
    monkeypatch.setattr(
        Requests,
        "removed",
        lambda self, *given, of=Requests.removed: removed.append(given[2]) or of(self, *given),
    )
    stream = Requests(lab).stream()
    assert removed == [4, 5]
    assert [len(look.verbmem) for look in stream.looks] == [2, 4]
    assert len(stream.requests) == 4
    # The last request of a cohort is measured twice on the same weights.
    assert stream.rises("verbmem")[-1][-1] == stream.rises("knowmem")[-1][-1] == 0
    assert Requests(lab).stream() == stream
    assert removed == [4, 5]


def test_requests_that_grow_are_measured_at_each_size(lab):
    rows = Requests(lab).growing()
    assert [row["documents"] for row in rows] == [2, 4, 6, 8]
    assert json.loads(json.dumps(rows)) == rows


def test_a_page_has_the_picture_and_its_figures(tmp_path):
    path = tmp_path / "curves" / "page.html"
    page(
        path,
        "A & B",
        [Panel("time", "requests", "s", [Line("one", [1, 2], [0.5, 1.5]), Line("two", [2], [7])])],
    )
    text = path.read_text()
    assert text.count("<svg") == 1
    assert "<h1>A &amp; B</h1>" in text
    assert "<tr><td>1</td><td>0.50</td><td></td></tr>" in text
    assert "<tr><td>2</td><td>1.50</td><td>7.00</td></tr>" in text
