"""SweepGrafts: the handler run here and now, and what it keeps for another attempt."""

import json

import pytest

from palimpsest.api.grafting.v1 import grafting_pb2 as pb
from palimpsest.client.requests import FieldValueError
from palimpsest.errors import Cancelled, InvalidArgument, Reason
from palimpsest.jobs import JobContext
from palimpsest.progress import Drain, NullProgress
from services.grafting import runs
from services.grafting.tasks import sweep

PAIR = pb.ModelPair(base="base", donor="tuned")
CASES = [
    pb.Case(prompt="the quick brown fox jumps", target=" over the"),
    pb.Case(prompt="the lazy dog", target=" sleeps"),
]


def job(resources, progress=None) -> JobContext:
    return JobContext("sweep", "local", 1, progress or NullProgress(), resources)


def request(**axes) -> pb.SweepGraftsRequest:
    return pb.SweepGraftsRequest(pair=PAIR, cases=CASES, axes=pb.SweepAxes(**axes))


def table(resources, result) -> dict:
    return json.loads(resources.artifacts.read_bytes(result.table.digest))


async def test_every_cell_is_the_graft_that_it_names(client, resources):
    sets = [pb.ComponentSet(components=["layer"]), pb.ComponentSet(components=["o", "ffn"])]
    result = sweep(request(components=sets), job(resources))
    found = table(resources, result)
    assert (found["format"], found["base"]["model"], found["layers"]) == ("palimpsest.grafts/1", "base", 2)
    count = sum(len(case["tokens"]) * 2 * 2 for case in found["cases"])
    assert result.cells == count == sum(len(case["cells"]) for case in found["cases"])
    assert result.row_layers < result.naive_row_layers
    for case, sent in zip(found["cases"], CASES, strict=True):
        assert "".join(case["tokens"]) == sent.prompt
        names = [(c["position"], c["layers"]["first"], len(c["components"])) for c in case["cells"]]
        assert names == sorted(names, key=lambda n: (int(n[0]), n[1], n[2] == 4))
        for cell in case["cells"]:
            patch = {
                "positions": {"indices": [int(cell["position"])]},
                "layers": cell["layers"],
                "components": cell["components"],
            }
            alone = await client.grafting.graft(pair=PAIR, case=sent, patches=[patch])
            assert cell["reading"]["logprob"] == pytest.approx(alone.reading.logprob, abs=1e-4)
            assert cell["reading"]["rank"] == alone.reading.rank
            assert cell["reading"]["kl_donor"] == pytest.approx(alone.reading.kl_donor, abs=1e-4)
            assert case["base"]["logprob"] == pytest.approx(alone.base.logprob, abs=1e-5)


async def test_named_selections_and_windows_are_rows_of_the_grid(client, resources):
    the = pb.Positions(spans=[pb.TextSpan(text="the", occurrence=1)])
    rows = [
        pb.NamedPositions(name="the", positions=the),
        pb.NamedPositions(name="rest", positions=pb.Positions(spans=the.spans, complement=True)),
    ]
    found = table(resources, sweep(request(positions=rows, window=2), job(resources)))
    for case, sent in zip(found["cases"], CASES, strict=True):
        assert [c["position"] for c in case["cells"]] == ["the", "rest"]
        assert all(c["layers"] == {"first": 0, "stop": 2} for c in case["cells"])
        patches = [{"positions": rows[1].positions}]
        alone = await client.grafting.graft(pair=PAIR, case=sent, patches=patches)
        assert case["cells"][1]["reading"]["logprob"] == pytest.approx(alone.reading.logprob, abs=1e-4)


class Interrupted(NullProgress):
    """Stops the job once so many cells are done, and then keeps what the attempt left."""

    def __init__(self, after: int, resume=None) -> None:
        super().__init__(resume)
        self.after = after

    def step(self, done: int, total: int, stage: str = "") -> None:
        if total and done >= self.after:
            raise Drain("sweep")


@pytest.fixture
def small_batches(monkeypatch):
    """Batches of a few cells, as larger models have them."""
    monkeypatch.setattr(runs.batches, "__defaults__", (12,))


def test_finished_cells_are_not_computed_again(resources, small_batches):
    undisturbed = sweep(request(), job(resources, whole := NullProgress()))
    told = [cell for part in whole.partials for cell in part.cells]
    assert len(told) == undisturbed.cells
    state, partials = None, []
    for after in (3, 9, 14):
        progress = Interrupted(after, state)
        with pytest.raises(Drain):
            sweep(request(), job(resources, progress))
        state = progress.resume()
        partials += progress.partials
    last = NullProgress(state)
    resumed = sweep(request(), job(resources, last))
    cells = [
        (part.case, c.position, c.layers.first) for part in [*partials, *last.partials] for c in part.cells
    ]
    assert len(cells) == len(set(cells)) == undisturbed.cells, "each cell was computed once"
    assert resumed.resumed_cells == sum(len(part.cells) for part in partials)
    assert resumed.table.digest == undisturbed.table.digest
    assert resumed.row_layers < undisturbed.row_layers


def test_cells_of_other_models_are_not_taken_over(resources, small_batches):
    progress = Interrupted(6)
    with pytest.raises(Drain):
        sweep(request(), job(resources, progress))
    turned = request()
    turned.pair.base, turned.pair.donor = "tuned", "base"
    found = sweep(turned, job(resources, NullProgress(progress.resume())))
    assert found.resumed_cells == 0


def test_a_cancelled_sweep_stops_within_a_layer(resources):
    class Gone(NullProgress):
        def check(self) -> None:
            raise Cancelled(Reason.JOB_CANCELLED, "The job was cancelled.")

    with pytest.raises(Cancelled):
        sweep(request(), job(resources, gone := Gone()))
    assert not gone.partials


BAD = {
    "a span that one case lacks": (
        {"axes": {"positions": [{"name": "fox", "positions": {"spans": [{"text": "fox"}]}}]}},
        Reason.SPAN_NOT_FOUND, "cases[1]",
    ),
    "too wide a window": ({"axes": {"window": 3}}, Reason.LAYER_OUT_OF_RANGE, "axes"),
    "an unknown component": (
        {"axes": {"components": [{"components": ["mlp"]}]}}, Reason.COMPONENT_OUT_OF_RANGE, "axes.components[0]",
    ),
    "a tied matrix": (
        {"axes": {"components": [{"components": ["embedding"]}]}}, Reason.TIED_WEIGHTS_AMBIGUOUS, "axes",
    ),
    "one name twice": (
        {"axes": {"positions": [{"name": "a", "positions": {"indices": [n]}} for n in (0, 1)]}},
        Reason.INVALID_REQUEST, "axes.positions",
    ),
    "too many cells": (
        {"cases": [{"prompt": "x" * 1500, "target": "x"}] * 60, "axes": {}}, Reason.GRAFTS_TOO_MANY, "axes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BAD))
async def test_a_sweep_is_checked_before_it_is_queued(client, name: str):
    fields, reason, place = BAD[name]
    with pytest.raises((InvalidArgument, FieldValueError)) as caught:
        await client.grafting.sweep_grafts(**{"pair": PAIR, "cases": CASES, **fields})
    assert caught.value.reason == reason
    assert any(place in f"{v.field} {v.description}" for v in caught.value.violations)


async def test_an_equal_sweep_is_one_job(client):
    first = await client.grafting.sweep_grafts(pair=PAIR, cases=CASES)
    assert (await client.grafting.sweep_grafts(pair=PAIR, cases=CASES)).name == first.name
    other = await client.grafting.sweep_grafts(pair=PAIR, cases=list(reversed(CASES)))
    assert other.name != first.name
    await first.cancel()
    await other.cancel()
