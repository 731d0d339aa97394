"""Sweeps of several donors and weights, and what each cell says of a contrast."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from google.protobuf import json_format
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from palimpsest.api.grafting.v1 import grafting_pb2 as pb
from palimpsest.errors import InvalidArgument, Reason
from palimpsest.jobs import JobContext
from palimpsest.models import register
from palimpsest.progress import Drain, NullProgress
from services.grafting import runs
from services.grafting.tasks import sweep
from tests.integration.grafting.conftest import changed
from tests.integration.grafting.test_grafts import CASE, PAIR, logprob_of
from tests.integration.grafting.test_sources import turn
from tests.integration.grafting.test_sweeps import Interrupted

HYBRID = {**PAIR, "others": ["other"]}
SOURCES = [{}, {"weight": 2.0}, {"source": 1}, {"source": 1, "weight": -0.5}, {"weight": 0.0}]
LABELS = ["tuned", "tuned x 2", "other", "other x -0.5", "tuned x 0"]


@pytest.fixture(scope="module", autouse=True)
def other(resources, folder: Path) -> None:
    """A further donor."""
    path = changed(folder / "base", folder / "other", turn)
    register("other", str(path), resources.models, resources.settings, NullProgress())


def swept(resources, progress=None, **fields: Any) -> tuple[pb.GraftSweep, dict[str, Any]]:
    request = json_format.ParseDict({"pair": HYBRID, **fields}, pb.SweepGraftsRequest())
    done = sweep(request, JobContext("sweep", "local", 1, progress or NullProgress(), resources))
    return done, json.loads(resources.artifacts.read_bytes(done.table.digest))


def mixed(folder: Path, donor: str, weight: float) -> Path:
    """base + weight * (donor - base), as a model of its own."""
    made = Path(shutil.copytree(folder / "base", folder / f"{donor} x {weight}", dirs_exist_ok=True))
    base, tuned = (load_file(folder / name / "model.safetensors") for name in ("base", donor))
    save_file(
        {name: value + weight * (tuned[name] - value) for name, value in base.items()},
        made / "model.safetensors",
        metadata={"format": "pt"},
    )
    return made


def test_a_cell_of_everything_is_the_model_that_its_source_names(resources, folder):
    everything = [{"name": "all", "positions": {"everything": True}}]
    axes = {"positions": everything, "window": 2, "components": [{"components": ["all"]}], "sources": SOURCES}
    _, table = swept(resources, cases=[CASE], axes=axes)
    cells = table["cases"][0]["cells"]
    assert [c["position"] for c in cells] == [f"all from {label}" for label in LABELS]
    assert [(c["selection"], c["source"], c["weight"]) for c in cells] == [
        ("all", "tuned", 1), ("all", "tuned", 2), ("all", "other", 1), ("all", "other", -0.5), ("all", "tuned", 0),
    ]  # fmt: skip
    assert [m["model"] for m in table["others"]] == ["other"]
    for cell, (donor, weight) in zip(cells, [(c["source"], c["weight"]) for c in cells], strict=True):
        expected = logprob_of(mixed(folder, donor, weight))
        assert cell["reading"]["logprob"] == pytest.approx(expected, abs=1e-3)


async def test_every_cell_is_the_graft_of_its_source(client, resources):
    axes = {"components": [{"components": ["layer"]}, {"components": ["o", "ffn"]}], "sources": SOURCES}
    done, table = swept(resources, cases=[CASE], axes=axes)
    cells = table["cases"][0]["cells"]
    count = len(table["cases"][0]["tokens"]) * 2 * 2 * len(SOURCES)
    assert (
        done.cells
        == len(cells)
        == len({json.dumps([c["position"], c["layers"], c["components"]]) for c in cells})
    )
    assert len(cells) == count
    for cell in cells[:: count // 29]:
        patch = {
            "positions": {"indices": [int(cell["selection"])]},
            "layers": cell["layers"],
            "components": cell["components"],
            "source": [*PAIR.values(), "other"].index(cell["source"]) - 1,
            "weight": cell["weight"],
        }
        alone = await client.grafting.graft(pair=HYBRID, case=CASE, patches=[patch])
        assert cell["reading"]["logprob"] == pytest.approx(alone.reading.logprob, abs=1e-4)
        assert cell["reading"]["recovery"] == pytest.approx(alone.reading.recovery, abs=1e-3)
    plan = await client.grafting.plan_grafts(pair=HYBRID, cases=[CASE], axes=axes)
    assert (plan.cells, plan.row_layers, plan.naive_row_layers) == (
        done.cells, done.row_layers, done.naive_row_layers,
    )  # fmt: skip


def test_the_donor_as_the_one_source_changes_no_name_and_no_number(resources):
    done, plain = swept(resources, pair=PAIR, cases=[CASE])
    _, named = swept(resources, pair=PAIR, cases=[CASE], axes={"sources": [{}]})
    for a, b in zip(plain["cases"][0]["cells"], named["cases"][0]["cells"], strict=True):
        assert (a["position"], a["reading"]) == (b["position"], b["reading"])
        assert (a.get("source"), b["source"], b["weight"]) == ("", "tuned", 1)
    assert done.cells == len(plain["cases"][0]["cells"])


def test_means_over_cases_are_by_source(resources):
    rows = [{"name": "last", "positions": {"indices": [-1]}}]
    cases = [CASE, {"prompt": "the lazy dog", "target": " sleeps"}]
    done, _ = swept(resources, cases=cases, axes={"positions": rows, "window": 2, "sources": SOURCES[:3]})
    assert [s.position for s in done.summaries] == [f"last from {label}" for label in LABELS[:3]]


def contrasted(folder: Path, text: str) -> float:
    """Log-probability of a continuation after the prompt, by transformers."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    prompt, target = tokenizer(CASE["prompt"])["input_ids"], tokenizer(text)["input_ids"]
    with torch.no_grad():
        logprobs = torch.log_softmax(model(torch.tensor([prompt + target])).logits[0].double(), -1)
    return sum(float(logprobs[len(prompt) - 1 + n, token]) for n, token in enumerate(target))


CONTRASTS = {
    "of one token each": (" the", " fox"),
    "of several tokens": (" and the", " sleeps"),
    "shorter than the target": (" and the", " fox"),
}


@pytest.mark.parametrize("kind", list(CONTRASTS))
@pytest.mark.parametrize("way", ["cells", "subsets", "preview"])
async def test_every_cell_reads_the_contrast_as_a_graft_of_it_does(
    client, resources, folder, kind: str, way: str
):
    target, contrast = CONTRASTS[kind]
    case = {**CASE, "target": target, "contrast": contrast}
    rows = [{"name": str(at), "positions": {"indices": [at]}} for at in (2, 5, -1)]
    axes = {"cells": {}, "subsets": {"positions": rows, "subsets": True}, "preview": {}}[way]
    fields = {"cases": [case], "axes": axes, **({"mode": "SWEEP_MODE_BOTH"} if way == "preview" else {})}
    done, table = swept(resources, progress := NullProgress(), pair=PAIR, **fields)
    plain = {**fields, "cases": [{**case, "contrast": ""}]}
    without, other = swept(resources, pair=PAIR, **plain)
    found = table["cases"][0]
    for a, b in zip(found["cells"], other["cases"][0]["cells"], strict=True):
        assert a["reading"] == b["reading"], "the target is read as it is alone"
        assert "contrast" not in b
    assert (done.row_layers == without.row_layers) == (kind == "of one token each")
    assert found["contrast"]["text"] == contrast
    for name, model in (("base", "base"), ("donor", "tuned")):
        expected = contrasted(folder / model, contrast)
        assert found["contrast"][name]["logprob"] == pytest.approx(expected, abs=1e-4)
        margin = found[name]["logprob"] - expected
        assert found["contrast"][f"{name}_margin"] == pytest.approx(margin, abs=1e-3)
    for cell in found["cells"][::5]:
        names = [int(n) for n in cell["position"].split("+")]
        patch = {"positions": {"indices": names}, "layers": cell["layers"], "components": cell["components"]}
        alone = await client.grafting.graft(
            pair=PAIR, case={**CASE, "target": target}, patches=[patch], contrast=contrast
        )
        own = cell["contrast"]
        assert own["reading"]["logprob"] == pytest.approx(alone.contrast.reading.logprob, abs=1e-4)
        assert own["reading"]["rank"] == alone.contrast.reading.rank
        assert own["margin"] == pytest.approx(alone.contrast.margin, abs=1e-3)
    told = [c for p in progress.partials if not p.preview for c in p.cells]
    assert all(c.HasField("contrast") for c in told)
    assert all(p.HasField("contrast") for p in progress.partials if p.cells and not p.preview)
    if way != "preview":
        plan = await client.grafting.plan_grafts(pair=PAIR, **fields)
        assert (plan.row_layers, plan.naive_row_layers) == (done.row_layers, done.naive_row_layers)


async def test_a_graft_reads_the_contrast_of_its_case(client):
    patches = [{"positions": {"indices": [-1]}}]
    case = {**CASE, "contrast": " fox"}
    own = await client.grafting.graft(pair=PAIR, case=case, patches=patches)
    said = await client.grafting.graft(pair=PAIR, case=CASE, patches=patches, contrast=" fox")
    assert own.contrast == said.contrast
    assert own.HasField("contrast")


def test_a_contrasted_sweep_of_several_sources_goes_on_where_it_was(resources, monkeypatch):
    monkeypatch.setattr(runs.batches, "__defaults__", (12,))
    fields = {"cases": [{**CASE, "contrast": " sleeps"}], "axes": {"sources": SOURCES[:3], "window": 2}}
    whole, _ = swept(resources, **fields)
    progress = Interrupted(5)
    with pytest.raises(Drain):
        swept(resources, progress, **fields)
    again, _ = swept(resources, NullProgress(progress.resume()), **fields)
    assert again.resumed_cells > 0
    assert again.table.digest == whole.table.digest


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a source that is not in the pair": ({"axes": {"sources": [{"source": 2}]}}, "axes.sources[0].source"),
    "a source twice": ({"axes": {"sources": [{}, {"source": 1}, {"weight": 1.0}]}}, "axes.sources[2]"),
    "a donor that no source names": ({"axes": {"sources": [{}]}}, "pair.others[0]"),
    "subsets": (
        {"axes": {"sources": [{"source": 1}], "subsets": True,
                  "positions": [{"name": "last", "positions": {"indices": [-1]}}]}}, "axes.subsets",
    ),
    "a preview": ({"axes": {"sources": [{"source": 1}]}, "mode": "SWEEP_MODE_BOTH"}, "mode"),
    "a search": ({"axes": {"sources": [{"source": 1}]}, "sufficient": {}}, "sufficient"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BAD))
async def test_sources_that_a_sweep_cannot_have_are_refused_by_field(client, name: str):
    fields, place = BAD[name]
    for call in (client.grafting.sweep_grafts, client.grafting.plan_grafts):
        with pytest.raises(InvalidArgument) as caught:
            await call(pair=HYBRID, cases=[CASE], **fields)
        assert caught.value.reason == Reason.INVALID_REQUEST
        assert [v.field for v in caught.value.violations] == [place]
