"""An adapter, named by the digest of its artefact, as the donor of every call."""

import json
import tarfile
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from palimpsest.api.grafting.v1 import grafting_pb2 as pb
from palimpsest.errors import FailedPrecondition, InvalidArgument, NotFound, Reason
from palimpsest.jobs import JobContext
from palimpsest.models import register
from palimpsest.progress import NullProgress
from palimpsest.training.adapters import attach, merge, save_adapter
from palimpsest.training.recipe import LoraSettings
from services.grafting.tasks import sweep
from tests.integration.grafting.test_grafts import CASE, EVERYTHING, LAST

MERGED = {"base": "base", "donor": "merged"}


def adapted(base: Path, folder: Path, name: str, targets: tuple[str, ...] = ()) -> tuple[bytes, Path]:
    """An adapter's artefact, and the folder of the model that it is merged into."""
    model = AutoModelForCausalLM.from_pretrained(base)
    attach(model, LoraSettings(4, 8.0, targets), seed=1)
    torch.manual_seed(2)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if "lora_B" in key:
                value.copy_(0.3 * torch.randn_like(value))
    save_adapter(model, folder / f"{name}-files", "base")
    packed = folder / f"{name}.tar"
    with tarfile.open(packed, "w") as tar:
        for file in sorted((folder / f"{name}-files").iterdir()):
            tar.add(file, file.name)
    merge(model)
    model.save_pretrained(folder / name)
    for file in base.glob("tokenizer*"):
        (folder / name / file.name).write_bytes(file.read_bytes())
    return packed.read_bytes(), folder / name


@pytest.fixture(scope="module")
def data(resources, folder: Path) -> bytes:
    """The artefact; "merged" is the model."""
    found, merged = adapted(folder / "base", folder, "merged")
    register("merged", str(merged), resources.models, resources.settings, NullProgress())
    return found


@pytest.fixture
async def pair(client, data) -> dict[str, str]:
    return {"base": "base", "donor": (await client.artifacts.upload(data)).digest}


async def test_a_graft_of_an_adapter_is_that_of_the_merged_model(client, pair):
    half = [
        {"positions": {"spans": [{"text": "brown fox"}], "indices": [-1]}, "components": ["q", "o", "ffn"]}
    ]
    twice = [{**LAST[0], "weight": 2.0}]
    for patches in (EVERYTHING, LAST, half, twice, [*EVERYTHING, {**half[0], "restore": True}]):
        apart = await client.grafting.graft(pair=pair, case=CASE, patches=patches)
        joined = await client.grafting.graft(pair=MERGED, case=CASE, patches=patches)
        for name in ("reading", "base", "donor"):
            found, expected = getattr(apart, name), getattr(joined, name)
            assert found.logprob == pytest.approx(expected.logprob, abs=1e-3 if patches is twice else 1e-4)
            assert found.rank == expected.rank
    assert apart.donor.logprob != pytest.approx(apart.base.logprob, abs=1e-3)


async def test_an_adapter_may_be_a_further_donor(client, pair):
    hybrid = {"base": "base", "donor": "tuned", "others": [pair["donor"]]}
    joined = {**hybrid, "others": ["merged"]}
    patches = [{**EVERYTHING[0], "layers": {"stop": 1}}, {**LAST[0], "layers": {"first": 1}, "source": 1}]
    found, expected = [
        await client.grafting.graft(pair=each, case=CASE, patches=patches) for each in (hybrid, joined)
    ]
    assert found.reading.logprob == pytest.approx(expected.reading.logprob, abs=1e-4)


async def test_a_pair_with_an_adapter_is_described_by_what_it_adds(client, pair):
    found, expected = [
        await client.grafting.check_pair(pair=each, prompt=CASE["prompt"]) for each in (pair, MERGED)
    ]
    assert found.compatible
    assert [(c.layer, c.component) for c in found.changes] == [
        (c.layer, c.component) for c in expected.changes
    ]
    for mine, theirs in zip(found.changes, expected.changes, strict=True):
        assert mine.delta_norm == pytest.approx(theirs.delta_norm, rel=1e-4)
        assert mine.relative_norm == pytest.approx(theirs.relative_norm, rel=1e-4)
    assert [t.kl for t in found.tokens] == pytest.approx([t.kl for t in expected.tokens], abs=1e-4)


async def test_a_text_goes_on_with_an_adapter(client, pair):
    async def text(of: dict[str, str]) -> list[int]:
        tokens = client.grafting.generate_grafted(
            pair=of,
            prompt=CASE["prompt"],
            patches=EVERYTHING,
            max_new_tokens=6,
            decoding="GRAFT_DECODING_DONOR",
        )
        return [token.token async for token in tokens]

    assert await text(pair) == await text(MERGED)


@pytest.mark.parametrize("fields", [{}, {"mode": "SWEEP_MODE_BOTH"}, {"axes": {"subsets": True}}])
async def test_a_sweep_of_an_adapter_is_that_of_the_merged_model(client, resources, pair, fields):
    rows = [{"name": n, "positions": {"indices": [at]}} for n, at in (("first", 0), ("last", -1))]
    axes = {**fields.get("axes", {}), "positions": rows}

    def swept(of: dict[str, str]) -> tuple[pb.GraftSweep, dict]:
        request = pb.SweepGraftsRequest(
            pair=pb.ModelPair(**of), cases=[pb.Case(**CASE)], axes=pb.SweepAxes(
                positions=[pb.NamedPositions(name=r["name"], positions=pb.Positions(**r["positions"])) for r in rows],
                subsets=axes.get("subsets", False),
            ), mode=fields.get("mode"),
        )  # fmt: skip
        done = sweep(request, JobContext("sweep", "local", 1, NullProgress(), resources))
        return done, json.loads(resources.artifacts.read_bytes(done.table.digest))

    (done, found), (_, expected) = swept(pair), swept(MERGED)
    assert found["donor"] == {"model": pair["donor"], "fingerprint": pair["donor"]}
    cells = [case["cells"] for case in (found["cases"][0], expected["cases"][0])]
    for mine, theirs in zip(*cells, strict=True):
        assert mine["reading"]["logprob"] == pytest.approx(theirs["reading"]["logprob"], abs=1e-4)
        if "estimate" in theirs:
            assert mine["estimate"] == pytest.approx(theirs["estimate"], abs=1e-3)
    plan = await client.grafting.plan_grafts(pair=pair, cases=[CASE], axes=axes)
    assert (plan.cells, plan.naive_row_layers) == (done.cells, done.naive_row_layers)
    base = resources.models.get("base")
    assert 4 * base.parameter_count < plan.weight_bytes < 8 * base.parameter_count
    job = await client.grafting.sweep_grafts(pair=pair, cases=[CASE], axes=axes)
    await job.cancel()


async def test_what_is_no_adapter_of_the_base_is_refused_before_a_job_is_queued(
    client, resources, folder, data
):
    calls = (
        lambda pair: client.grafting.graft(pair=pair, case=CASE, patches=LAST),
        lambda pair: client.grafting.sweep_grafts(pair=pair, cases=[CASE]),
        lambda pair: client.grafting.plan_grafts(pair=pair, cases=[CASE]),
    )
    text = (await client.artifacts.upload(b"no adapter")).digest
    adapter = (await client.artifacts.upload(data)).digest
    for pair, error, reason in (
        ({"base": "base", "donor": text}, InvalidArgument, Reason.ADAPTER_INVALID),
        ({"base": "base", "donor": "sha256:" + "7" * 64}, NotFound, Reason.ARTIFACT_NOT_FOUND),
        ({"base": "tuned", "donor": adapter}, FailedPrecondition, Reason.ADAPTER_MISMATCH),
    ):
        for call in calls:
            with pytest.raises(error) as caught:
                await call(pair)
            assert caught.value.reason == reason
    found = await client.grafting.check_pair(pair={"base": "tuned", "donor": adapter})
    assert (found.compatible, found.reason) == (False, Reason.ADAPTER_MISMATCH)


async def test_an_adapter_of_an_equal_model_fits_under_another_name(client, resources, folder, pair):
    register("twin", str(folder / "base"), resources.models, resources.settings, NullProgress())
    found = await client.grafting.graft(pair={**pair, "base": "twin"}, case=CASE, patches=LAST)
    assert found.reading == (await client.grafting.graft(pair=pair, case=CASE, patches=LAST)).reading
