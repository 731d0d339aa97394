"""A base that is registered in 4 or 8 bits, beside the same dequantised and registered as it then is."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.utils.quantization_config import BitsAndBytesConfig

from palimpsest.api.grafting.v1 import grafting_pb2 as pb
from palimpsest.jobs import JobContext
from palimpsest.models import register
from palimpsest.progress import NullProgress
from services.grafting.tasks import sweep
from tests.integration.grafting.test_grafts import CASE, EVERYTHING, LAST

FORMATS = {
    "eight": {"load_in_8bit": True},
    "four": {
        "load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": torch.float32,
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=list(FORMATS))
def form(request, resources, folder: Path) -> str:
    """ "eight" and "four" are "base" quantised, and "eight-dense" and "four-dense" what transformers makes of that."""
    base, name = folder / "base", request.param
    options = BitsAndBytesConfig(**FORMATS[name])
    model = AutoModelForCausalLM.from_pretrained(base, quantization_config=options, dtype=torch.float32)
    model.save_pretrained(folder / name)
    again = AutoModelForCausalLM.from_pretrained(folder / name, dtype=torch.float32)
    plain = AutoModelForCausalLM.from_pretrained(base)
    plain.load_state_dict(again.dequantize().state_dict())
    plain.save_pretrained(folder / f"{name}-dense")
    for each in (name, f"{name}-dense"):
        for file in base.glob("tokenizer*"):
            shutil.copy(file, folder / each / file.name)
        if (base / "chat_template.jinja").exists():
            shutil.copy(base / "chat_template.jinja", folder / each)
        register(each, str(folder / each), resources.models, resources.settings, NullProgress())
    return name


async def test_grafts_into_a_quantised_base_are_those_into_the_dequantised_one(client, form):
    half = [
        {"positions": {"spans": [{"text": "brown fox"}], "indices": [-1]}, "components": ["k", "o", "ffn"]}
    ]
    for patches in (EVERYTHING, LAST, half, [{**LAST[0], "weight": 2.0}]):
        kept, dense = [
            await client.grafting.graft(pair={"base": base, "donor": "tuned"}, case=CASE, patches=patches)
            for base in (form, f"{form}-dense")
        ]
        for name in ("reading", "base", "donor"):
            found, expected = getattr(kept, name), getattr(dense, name)
            assert found.logprob == pytest.approx(expected.logprob, abs=1e-4)
    turned = [
        await client.grafting.graft(pair={"base": "tuned", "donor": donor}, case=CASE, patches=LAST)
        for donor in (form, f"{form}-dense")
    ]
    assert turned[0].reading.logprob == pytest.approx(turned[1].reading.logprob, abs=1e-4)


async def test_a_check_tells_rounding_from_training(client, form):
    alone = await client.grafting.check_pair(pair={"base": form, "donor": "base"})
    assert alone.changes
    for change in alone.changes:
        assert change.quantisation_norm == pytest.approx(change.delta_norm, rel=0.02)
    tuned = await client.grafting.check_pair(pair={"base": form, "donor": "tuned"}, prompt=CASE["prompt"])
    told = [c for c in tuned.changes if c.HasField("quantisation_norm")]
    assert {c.component for c in told} == {"q", "k", "v", "o", "gate", "up", "down"}
    assert all(0 < c.quantisation_norm < c.delta_norm for c in told)
    plain = await client.grafting.check_pair(pair={"base": f"{form}-dense", "donor": "tuned"})
    assert not any(c.HasField("quantisation_norm") for c in plain.changes)


async def test_a_sweep_of_a_quantised_base_runs_and_is_planned_in_less_memory(client, resources, form):
    tables = []
    for base in (form, f"{form}-dense"):
        request = pb.SweepGraftsRequest(
            pair=pb.ModelPair(base=base, donor="tuned"), cases=[pb.Case(**CASE)], mode=pb.SWEEP_MODE_BOTH
        )
        done = sweep(request, JobContext("sweep", "local", 1, NullProgress(), resources))
        tables.append(json.loads(resources.artifacts.read_bytes(done.table.digest)))
    kept, dense = (table["cases"][0]["cells"] for table in tables)
    for found, expected in zip(kept, dense, strict=True):
        assert found["reading"]["logprob"] == pytest.approx(expected["reading"]["logprob"], abs=1e-4)
        assert found["estimate"] == pytest.approx(expected["estimate"], abs=1e-3)
    plans = [
        await client.grafting.plan_grafts(pair={"base": base, "donor": "tuned"}, cases=[CASE])
        for base in (form, f"{form}-dense")
    ]
    assert plans[0].weight_bytes < plans[1].weight_bytes
    assert plans[0].row_layers == plans[1].row_layers
    job = await client.grafting.sweep_grafts(pair={"base": form, "donor": "tuned"}, cases=[CASE])
    await job.cancel()
