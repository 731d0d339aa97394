"""Several donors, amplified weights, a contrast, generation and plans over a real socket; and models given up."""

import asyncio
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from google.protobuf import json_format
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from palimpsest.api.grafting.v1 import grafting_pb2 as pb
from palimpsest.client.requests import FieldValueError
from palimpsest.errors import InvalidArgument, Reason
from palimpsest.jobs import JobContext
from palimpsest.models import register
from palimpsest.progress import NullProgress
from services.grafting import GraftingRoom
from services.grafting.tasks import sweep
from services.registry import RegistryRoom
from tests.integration.grafting.conftest import changed
from tests.integration.grafting.test_grafts import CASE, EVERYTHING, LAST, PAIR, logprob_of
from tests.rooms import client_of, serving


def turn(weights) -> None:
    drawn = torch.Generator().manual_seed(11)
    for value in weights.values():
        value += 0.1 * torch.randn(value.shape, generator=drawn)


@pytest.fixture(scope="module")
def third(resources, folder: Path) -> str:
    """A further donor."""
    path = changed(folder / "base", folder / "third", turn)
    register("third", str(path), resources.models, resources.settings, NullProgress())
    return "third"


async def test_a_patch_takes_its_weights_from_the_donor_that_it_names(client, folder, third):
    hybrid = {**PAIR, "others": [third]}
    whole = await client.grafting.graft(pair=hybrid, case=CASE, patches=[{**EVERYTHING[0], "source": 1}])
    assert whole.reading.logprob == pytest.approx(logprob_of(folder / third), abs=1e-4)
    assert whole.donor.logprob == pytest.approx(logprob_of(folder / "tuned"), abs=1e-4)
    patches = [{**LAST[0], "layers": {"stop": 1}}, {**LAST[0], "layers": {"first": 1}, "source": 1}]
    there = await client.grafting.graft(pair=hybrid, case=CASE, patches=patches)
    turned = {"base": "base", "donor": third, "others": ["tuned"]}
    patches = [{**LAST[0], "layers": {"stop": 1}, "source": 1}, {**LAST[0], "layers": {"first": 1}}]
    back = await client.grafting.graft(pair=turned, case=CASE, patches=patches)
    assert there.reading.logprob == pytest.approx(back.reading.logprob, abs=1e-5)
    assert there.reading.logprob != pytest.approx(whole.reading.logprob, abs=1e-3)
    assert (await client.grafting.check_pair(pair=hybrid)).compatible


async def test_a_weight_is_a_share_of_the_change(client, folder, resources):
    def graft(**patch):
        return client.grafting.graft(pair=PAIR, case=CASE, patches=[{**EVERYTHING[0], **patch}])

    assert (await graft(weight=0.0)).reading == (await graft(restore=True)).reading
    assert (await graft(weight=1.0)).reading == (await graft()).reading
    mixed = Path(shutil.copytree(folder / "base", folder / "twice"))
    base, tuned = (load_file(folder / name / "model.safetensors") for name in ("base", "tuned"))
    twice = {name: value + 2 * (tuned[name] - value) for name, value in base.items()}
    save_file(twice, mixed / "model.safetensors", metadata={"format": "pt"})
    assert (await graft(weight=2.0)).reading.logprob == pytest.approx(logprob_of(mixed), abs=1e-3)


async def test_a_contrast_is_the_same_graft_read_for_another_answer(client):
    other = {**CASE, "target": " sleeps"}
    both = await client.grafting.graft(pair=PAIR, case=CASE, patches=LAST, contrast=" sleeps")
    alone = await client.grafting.graft(pair=PAIR, case=other, patches=LAST)
    for name in ("reading", "base", "donor"):
        assert getattr(both.contrast, name) == getattr(alone, name)
    assert both.contrast.margin == pytest.approx(both.reading.logprob - alone.reading.logprob)
    assert both.contrast.donor_margin == pytest.approx(both.donor.logprob - alone.donor.logprob)
    assert not (await client.grafting.graft(pair=PAIR, case=CASE, patches=LAST)).HasField("contrast")


async def test_a_grafted_text_is_streamed_token_by_token(client, folder):
    expected = {}
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    prompt = torch.tensor([tokenizer(CASE["prompt"])["input_ids"]])
    for name in ("base", "tuned"):
        model = AutoModelForCausalLM.from_pretrained(folder / name)
        made = model.generate(prompt, max_new_tokens=6, do_sample=False)[0, prompt.shape[1] :].tolist()
        expected[name] = made
    for patches, decoding, name in (
        ([], "LAST", "base"),
        (EVERYTHING, "LAST", "tuned"),
        (EVERYTHING, "DONOR", "tuned"),
        ([], "BASE", "base"),
    ):
        tokens = [
            token
            async for token in client.grafting.generate_grafted(
                pair=PAIR, prompt=CASE["prompt"], patches=patches, max_new_tokens=6,
                decoding=f"GRAFT_DECODING_{decoding}",
            )
        ]  # fmt: skip
        assert [t.token for t in tokens] == expected[name]
        text = tokenizer.decode(expected[name], skip_special_tokens=True)
        assert "".join(t.text for t in tokens) == text
        stops = [t.stop for t in tokens]
        ended = tokens[-1].token == tokenizer.eos_token_id
        assert stops[-1] == (pb.GRAFT_STOP_END if ended else pb.GRAFT_STOP_LENGTH)
        assert set(stops[:-1]) <= {pb.GRAFT_STOP_UNSPECIFIED}
        assert all(t.logprob <= 0 for t in tokens)


SETS = [{"components": ["layer"]}, {"components": ["ffn"]}, {"components": ["embedding", "head"]}]
PLANNED: dict[str, dict[str, Any]] = {
    "cells": {"components": SETS[:2]},
    "subsets": {
        "components": SETS,
        "subsets": True,
        "stride": 1,
        "positions": [
            {"name": "dog", "positions": {"spans": [{"text": "dog"}]}},
            {"name": "last", "positions": {"indices": [-1]}},
        ],
    },
}


@pytest.mark.parametrize("kind", list(PLANNED))
async def test_a_plan_is_what_the_sweep_then_costs(client, resources, kind: str):
    other = {"prompt": "the lazy dog and the fox", "target": " sleeps"}
    fields = {
        "pair": PAIR,
        "cases": [{**other, "prompt": "a dog and a quick fox"}, other],
        "axes": PLANNED[kind],
        "untie": True,
    }
    plan = await client.grafting.plan_grafts(**fields)
    progress = NullProgress()
    request = pb.SweepGraftsRequest(
        pair=pb.ModelPair(**PAIR),
        cases=[pb.Case(**each) for each in fields["cases"]],
        axes=json_format.ParseDict(fields["axes"], pb.SweepAxes()),
        untie=True,
    )
    done = sweep(request, JobContext("sweep", "local", 1, progress, resources))
    assert (plan.cells, plan.row_layers, plan.naive_row_layers) == (
        done.cells, done.row_layers, done.naive_row_layers,
    )  # fmt: skip
    assert plan.batches == len(progress.partials)
    models = [resources.models.get(name) for name in PAIR.values()]
    assert plan.weight_bytes == 4 * sum(model.parameter_count for model in models)
    assert plan.batch_bytes > 4 * models[0].vocab_size * plan.cells / plan.batches


BAD = {
    "a source that is not in the pair": ({"patches": [{**LAST[0], "source": 1}]}, "patches[0].source"),
    "a restored patch with a weight": (
        {"patches": [{**LAST[0], "restore": True, "weight": 2.0}]}, "patches[0].restore",
    ),
    "too large a weight": ({"patches": [{**LAST[0], "weight": 5.0}]}, "patches[0].weight"),
    "one model twice": ({"pair": {**PAIR, "others": ["tuned"]}, "patches": LAST}, "pair.others[0]"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BAD))
async def test_sources_that_are_not_there_are_refused_by_field(client, name: str):
    fields, place = BAD[name]
    with pytest.raises((InvalidArgument, FieldValueError)) as caught:
        await client.grafting.graft(**{"pair": PAIR, "case": CASE, **fields})
    assert caught.value.reason == Reason.INVALID_REQUEST
    assert [v.field for v in caught.value.violations] == [place]


async def test_a_sweep_names_its_donors(client, third):
    for call in (client.grafting.sweep_grafts, client.grafting.plan_grafts):
        with pytest.raises(InvalidArgument) as caught:
            await call(pair={**PAIR, "others": [third]}, cases=[CASE])
        assert [v.field for v in caught.value.violations] == ["pair.others[0]"]


async def test_a_text_beyond_the_context_is_refused(client):
    with pytest.raises(InvalidArgument) as caught:
        async for _ in client.grafting.generate_grafted(
            pair=PAIR, prompt="dog " * 1800, patches=LAST, max_new_tokens=512
        ):
            pass
    assert caught.value.reason == Reason.PROMPT_TOO_LONG


async def test_models_that_nobody_uses_are_given_up(own_settings, resources, monkeypatch):
    settings = own_settings.model_copy(update={"grafting_idle_seconds": 0.01})
    room, gone = GraftingRoom(), threading.Event()
    async with serving(settings, RegistryRoom(), room) as server, client_of(server) as client:
        host = room._servicer._host
        close = host.close
        monkeypatch.setattr(host, "close", lambda: (close(), gone.set()))
        before = await client.grafting.graft(pair=PAIR, case=CASE, patches=LAST)
        assert await asyncio.to_thread(gone.wait, 60)
        assert host.held == 0
        again = await client.grafting.graft(pair=PAIR, case=CASE, patches=LAST)
        assert again.reading == before.reading
