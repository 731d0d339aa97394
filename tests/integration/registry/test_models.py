"""ModelService over a real socket, with a real worker."""

import json
import shutil
import uuid
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from palimpsest.api.models.v1 import models_pb2 as pb
from palimpsest.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from tests.integration.registry.conftest import typed


def fresh():
    return f"m-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def register(registry, ended):
    async def run(model_id, source, **fields):
        request = pb.RegisterModelRequest(model_id=model_id, source=str(source), **fields)
        with typed():
            operation = await registry.models.RegisterModel(request, timeout=20)
        return await ended(operation)

    return run


@pytest.fixture
def tuned(tiny_model, tmp_path):
    folder = Path(shutil.copytree(tiny_model, tmp_path / "tuned"))
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"] += 0.25
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


async def test_a_life(registry, ended, register, tiny_model, tuned):
    base, donor = fresh(), fresh()
    registered = await register(base, tiny_model, labels={"team": "blue"})
    assert registered.architecture == "LlamaForCausalLM"
    assert registered.labels["team"] == "blue"
    with typed():
        assert await registry.models.GetModel(pb.GetModelRequest(model_id=base), timeout=10) == registered
    child = await register(donor, tuned, parent=base, relation=pb.RELATION_FINE_TUNED)
    assert child.fingerprint != registered.fingerprint
    assert child.tokenizer_fingerprint == registered.tokenizer_fingerprint

    with typed():
        lineage = await registry.models.GetLineage(pb.GetLineageRequest(model_id=donor), timeout=10)
        assert [model.model_id for model in lineage.ancestors] == [base]
        listed = await registry.models.ListModels(pb.ListModelsRequest(), timeout=10)
        assert [model.model_id for model in listed.models][-2:] == [base, donor]
        operation = await registry.models.CheckPair(pb.CheckPairRequest(base=base, donor=donor), timeout=10)
    report = await ended(operation)
    assert report.compatible
    assert report.same_tokenizer
    assert [delta.tensor for delta in report.deltas] == ["model.layers.1.mlp.up_proj.weight"]
    assert (report.deltas[0].layer, report.deltas[0].component) == (1, "mlp")
    assert report.max_abs_diff == pytest.approx(0.25, rel=1e-5)
    with typed():
        again = await registry.models.CheckPair(pb.CheckPairRequest(base=base, donor=donor), timeout=10)
    assert again.name == operation.name, "the same pair is compared once"

    with pytest.raises(FailedPrecondition) as caught, typed():
        await registry.models.DeleteModel(pb.DeleteModelRequest(model_id=base), timeout=10)
    assert caught.value.metadata["children"] == donor
    with typed():
        await registry.models.DeleteModel(pb.DeleteModelRequest(model_id=donor), timeout=10)
        await registry.models.DeleteModel(pb.DeleteModelRequest(model_id=base), timeout=10)
    assert (tiny_model / "model.safetensors").exists()
    with pytest.raises(NotFound), typed():
        await registry.models.GetModel(pb.GetModelRequest(model_id=base), timeout=10)


async def test_same_id(register, tiny_model, tuned):
    model_id = fresh()
    first = await register(model_id, tiny_model)
    assert await register(model_id, tiny_model) == first
    with pytest.raises(AlreadyExists) as caught:
        await register(model_id, tuned)
    assert caught.value.reason == "MODEL_EXISTS"


async def test_refused_by_the_server(register, tiny_model):
    for fields, kind in [
        ({"source": "relative/path"}, InvalidArgument),
        ({"source": ""}, InvalidArgument),
        ({"source": tiny_model, "parent": "nobody"}, NotFound),
        ({"source": tiny_model, "relation": 99}, InvalidArgument),
    ]:
        with pytest.raises(kind):
            await register(fresh(), **fields)
    with pytest.raises(InvalidArgument):
        await register("../x", tiny_model)


async def test_refused_by_the_job(registry, register, tmp_path):
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(b"GGUF\x03\0\0\0")
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text(
        json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]})
    )
    (pickled / "pytorch_model.bin").write_bytes(b"PK")
    for source, kind, reason in [
        (tmp_path / "nothing", NotFound, "MODEL_SOURCE_NOT_FOUND"),
        (cut, InvalidArgument, "MODEL_INVALID"),
        (pickled, InvalidArgument, "MODEL_PICKLED"),
        ("hub:nobody/nothing-of-this-name", NotFound, "MODEL_SOURCE_NOT_FOUND"),
    ]:
        model_id = fresh()
        with pytest.raises(kind) as caught:
            await register(model_id, source)
        assert caught.value.reason == reason
        with pytest.raises(NotFound), typed():
            await registry.models.GetModel(pb.GetModelRequest(model_id=model_id), timeout=10)


def shift_norm(folder):
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


async def test_files_that_changed(registry, ended, register, tiny_model, tuned):
    base, donor = fresh(), fresh()
    await register(base, tiny_model)
    shift_norm(tuned)
    await register(donor, tuned)
    shift_norm(tuned)
    with typed():
        operation = await registry.models.CheckPair(pb.CheckPairRequest(base=base, donor=donor), timeout=10)
    with pytest.raises(FailedPrecondition) as caught:
        await ended(operation)
    assert caught.value.reason == "MODEL_CHANGED"
