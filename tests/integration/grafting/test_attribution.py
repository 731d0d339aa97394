"""Sweeps that estimate, value segments and look for sets: the handler run here and now, and what the server checks."""

import itertools

import numpy as np
import pytest
from scipy import stats

from palimpsest.api.grafting.v1 import grafting_pb2 as pb
from palimpsest.errors import InvalidArgument, Reason
from palimpsest.progress import Drain, NullProgress
from services.grafting.tasks import sweep
from tests.integration.grafting.test_sweeps import CASES, PAIR, Interrupted, job, small_batches, table

__all__ = ["small_batches"]

THE = pb.Positions(spans=[pb.TextSpan(text="the", occurrence=1)])
SEGMENTS = [
    pb.NamedPositions(name="last", positions=pb.Positions(indices=[-1])),
    pb.NamedPositions(name="the", positions=THE),
    pb.NamedPositions(name="rest", positions=pb.Positions(spans=THE.spans, indices=[-1], complement=True)),
]


def request(axes=None, **fields) -> pb.SweepGraftsRequest:
    return pb.SweepGraftsRequest(pair=PAIR, cases=CASES, axes=pb.SweepAxes(**axes or {}), **fields)


KINDS = {
    "preview": request(
        mode=pb.SWEEP_MODE_PREVIEW,
        preview=pb.PreviewOptions(verify_top=3, verify_random=2, seed=3, drops=2, own_layer=True),
        sufficient=pb.SufficientSearch(threshold=0.8),
    ),
    "both": request(mode=pb.SWEEP_MODE_BOTH, preview=pb.PreviewOptions(steps=2)),
    "subsets": request(
        {"positions": SEGMENTS, "subsets": True, "stride": 1}, sufficient=pb.SufficientSearch()
    ),
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_pieces_are_made_once_and_the_table_is_the_same_bytes(resources, small_batches, kind: str):
    whole = NullProgress()
    undisturbed = sweep(KINDS[kind], job(resources, whole))
    state, partials = None, []
    for after in (3, 6, 9):
        progress = Interrupted(after, state)
        with pytest.raises(Drain):
            sweep(KINDS[kind], job(resources, progress))
        state = progress.resume()
        partials += progress.partials
    last = NullProgress(state)
    resumed = sweep(KINDS[kind], job(resources, last))
    assert resumed.table.digest == undisturbed.table.digest
    assert resumed.resumed_cells > 0
    told = [part.SerializeToString(deterministic=True) for part in [*partials, *last.partials]]
    assert told == [part.SerializeToString(deterministic=True) for part in whole.partials]
    for name in ("summaries", "sufficient", "previews", "grafted_cells", "cells"):
        assert getattr(resumed, name) == getattr(undisturbed, name)


async def test_every_subset_is_the_graft_that_it_names_and_segments_are_valued_by_them(client, resources):
    result = sweep(KINDS["subsets"], job(resources))
    found = table(resources, result)
    names = {each.name: each.positions for each in SEGMENTS}
    assert result.cells == result.grafted_cells == 2 * 7 * 2
    for case, sent in zip(found["cases"], CASES, strict=True):
        recoveries = {}
        for cell in case["cells"]:
            chosen = cell["position"].split("+")
            patches = [{"positions": names[name], "layers": cell["layers"]} for name in chosen]
            alone = (await client.grafting.graft(pair=PAIR, case=sent, patches=patches)).reading
            assert cell["reading"]["logprob"] == pytest.approx(alone.logprob, abs=1e-4)
            assert cell["reading"]["rank"] == alone.rank
            recoveries[cell["layers"]["first"], frozenset(chosen)] = cell["reading"]["recovery"]
        for values in case["values"]:
            first = values["layers"]["first"]
            worth = {frozenset[str](): 0.0} | {k: v for (at, k), v in recoveries.items() if at == first}
            for segment in values["segments"]:
                gains = []
                for order in itertools.permutations(names):
                    before = frozenset(order[: order.index(segment["segment"])])
                    gains.append(worth[before | {segment["segment"]}] - worth[before])
                assert segment["shapley"] == pytest.approx(np.mean(gains), abs=1e-9)
                assert segment["alone"] == worth[frozenset({segment["segment"]})]
                assert segment["without"] == worth[frozenset(names) - {segment["segment"]}]
            total = sum(segment["shapley"] for segment in values["segments"])
            assert total == pytest.approx(worth[frozenset(names)], abs=1e-9)


def test_recoveries_are_averaged_over_cases_with_their_interval(resources):
    result = sweep(KINDS["subsets"], job(resources))
    found = table(resources, result)
    assert len(result.summaries) == len(found["summaries"]) == 2 * (7 + 3 + 3)
    by_name = {(s.position, s.layers.first): s for s in result.summaries}
    for name, first in (("the", 0), ("last+the+rest", 1)):
        values = [
            cell["reading"]["recovery"]
            for case in found["cases"]
            for cell in case["cells"]
            if (cell["position"], cell["layers"]["first"]) == (name, first)
        ]
        told = by_name[name, first]
        assert told.cases == len(values) == 2
        assert told.mean_recovery == pytest.approx(np.mean(values))
        assert (told.low, told.high) == (pytest.approx(min(values)), pytest.approx(max(values)))
    shapley = [values["segments"][0]["shapley"] for case in found["cases"] for values in case["values"][:1]]
    assert by_name["shapley:last", 0].mean_recovery == pytest.approx(np.mean(shapley))
    unnamed = sweep(request(), job(resources))
    assert not unnamed.summaries


async def test_a_preview_grafts_what_seems_largest_and_says_what_it_may_have_missed(client, resources):
    progress = NullProgress()
    result = sweep(KINDS["preview"], job(resources, progress))
    assert progress.partials[0].preview, "estimates are told first"
    exact = table(resources, sweep(request(), job(resources)))
    found = table(resources, result)
    options = KINDS["preview"].preview
    assert result.grafted_cells == 2 * (options.verify_top + options.verify_random) < result.cells
    for case, whole, told in zip(found["cases"], exact["cases"], result.previews, strict=True):
        assert len(case["cells"]) == len(whole["cells"]) == told.cells
        grafted = [c for c in case["cells"] if "reading" in c]
        assert len(grafted) == told.top + told.random == 5
        by_strength = sorted(case["cells"], key=lambda c: -c["strength"])[: told.top]
        assert all("reading" in cell for cell in by_strength)
        for cell, other in zip(case["cells"], whole["cells"], strict=True):
            assert cell["strength"] >= cell["estimate"]
            if "reading" in cell:
                assert cell["reading"]["logprob"] == pytest.approx(other["reading"]["logprob"], abs=1e-4)
        base = case["base"]["logprob"]
        above = [c for c in whole["cells"] if c["reading"]["logprob"] - base > told.threshold + 1e-4]
        missed = [
            c
            for c, mine in zip(whole["cells"], case["cells"], strict=True)
            if c in above and "reading" not in mine
        ]
        assert len(missed) <= told.missed_at_most


def test_both_ways_are_compared_over_all_cells(resources):
    result = sweep(KINDS["both"], job(resources))
    found = table(resources, result)
    assert result.grafted_cells == result.cells
    for case, told in zip(found["cases"], result.previews, strict=True):
        pairs = [(c["estimate"], c["reading"]["logprob"]) for c in case["cells"]]
        assert told.correlation == pytest.approx(stats.pearsonr(*zip(*pairs, strict=True))[0])
        assert told.missed_at_most == 0


@pytest.mark.parametrize("kind", ["preview", "subsets"])
async def test_a_set_that_is_enough_is_so_and_none_of_it_can_be_left_out(client, resources, kind: str):
    asked = KINDS[kind]
    found = table(resources, sweep(asked, job(resources)))
    assert len(found["sufficient"]) == 4
    assert any(each["reached"] for each in found["sufficient"])
    names = {each.name: each.positions for each in SEGMENTS}

    async def recovery(each, chosen, **more) -> float:
        selections = [names[name] if name in names else pb.Positions(indices=[int(name)]) for name in chosen]
        patches = [{"positions": own, "layers": each["layers"], **more} for own in selections]
        everything = {"positions": {"everything": True}, "layers": each["layers"]}
        patches = [everything, *patches] if more else patches
        case = CASES[each.get("case", 0)]
        return (await client.grafting.graft(pair=PAIR, case=case, patches=patches)).reading.recovery

    for each in found["sufficient"]:
        chosen, threshold = each["positions"], each["threshold"]
        assert threshold == (asked.sufficient.threshold or 0.9)
        assert each["order"] == ("shapley" if kind == "subsets" else "preview")
        if not each["reached"]:
            assert not chosen
            assert each["recovery"] < threshold
            continue
        assert await recovery(each, chosen) == pytest.approx(each["recovery"], abs=1e-4)
        assert each["recovery"] >= threshold
        for name in chosen:
            without = [other for other in chosen if other != name]
            assert not without or await recovery(each, without) < threshold + 1e-4
        if "complement" in each:
            rest = await recovery(each, chosen, restore=True)
            assert each["complement"] == pytest.approx(rest, abs=1e-4)


MANY = [pb.NamedPositions(name=str(n), positions=pb.Positions(indices=[n])) for n in range(9)]
EVERYTHING = pb.NamedPositions(name="all", positions=pb.Positions(everything=True))
BAD = {
    "subsets of nothing": ({"subsets": True}, {}, Reason.INVALID_REQUEST, "axes.positions"),
    "too many segments": ({"subsets": True, "positions": MANY}, {}, Reason.INVALID_REQUEST, "axes.positions"),
    "segments with a token in common": (
        {"subsets": True, "positions": [SEGMENTS[0], EVERYTHING]},
        {}, Reason.INVALID_REQUEST, "axes.positions",
    ),
    "a name that looks like a subset": (
        {"subsets": True, "positions": [pb.NamedPositions(name="a+b", positions=THE)]},
        {}, Reason.INVALID_REQUEST, "axes.positions",
    ),
    "estimated subsets": (
        {"subsets": True, "positions": SEGMENTS}, {"mode": pb.SWEEP_MODE_BOTH}, Reason.INVALID_REQUEST, "mode",
    ),
    "options of a preview without one": (
        {}, {"preview": pb.PreviewOptions(drops=1)}, Reason.INVALID_REQUEST, "preview",
    ),
    "corrections of slopes that are elsewhere": (
        {}, {"mode": pb.SWEEP_MODE_PREVIEW, "preview": pb.PreviewOptions(steps=2, drops=1)},
        Reason.INVALID_REQUEST, "preview.steps",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BAD))
async def test_what_cannot_be_is_said_before_it_is_queued(client, name: str):
    axes, fields, reason, place = BAD[name]
    with pytest.raises(InvalidArgument) as caught:
        await client.grafting.sweep_grafts(**_fields(request(axes, **fields)))
    assert caught.value.reason == reason
    assert caught.value.violations[0].field == place


async def test_subsets_of_a_long_prompt_have_too_many_rows(client):
    case = pb.Case(prompt="the " + "dog " * 800, target="x")
    axes = {
        "subsets": True,
        "positions": MANY[:5],
    }
    asked = pb.SweepGraftsRequest(pair=PAIR, cases=[case], axes=pb.SweepAxes(**axes))
    with pytest.raises(InvalidArgument) as caught:
        await client.grafting.sweep_grafts(**_fields(asked))
    assert caught.value.reason == Reason.GRAFTS_TOO_MANY


def _fields(asked: pb.SweepGraftsRequest) -> dict:
    return {field.name: value for field, value in asked.ListFields()}
