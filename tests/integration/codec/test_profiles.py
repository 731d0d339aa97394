"""A profile is loaded once before contexts are coded with it: small models, and models that give NaN."""

import pytest
from safetensors.torch import load_file, save_file

from palimpsest.api.codec.v1 import codec_pb2 as pb
from palimpsest.errors import FailedPrecondition, NotFound, Reason
from palimpsest.jobs import JobContext
from palimpsest.kv import CalibrationProfile
from palimpsest.models import register
from palimpsest.progress import NullProgress
from services.codec.tasks import calibrate
from tests.tiny import write_tiny_model


@pytest.mark.parametrize("group", [0, 2, 5, 64])
async def test_a_model_with_fewer_layers_than_a_group_can_be_calibrated(
    client, create, resources, tiny_model, group
):
    """The tiny model has two layers; a group has five by default."""
    name = f"few-{group}"
    register(
        name,
        str(write_tiny_model(resources.settings.state_dir / name, seed=group + 1)),
        resources.models,
        resources.settings,
        NullProgress(),
    )
    request = pb.CalibrateRequest(model=name, documents=6, document_tokens=64, group=group)
    found = calibrate(request, JobContext("job", "me", 1, NullProgress(), resources))
    assert found.group == 2
    assert CalibrationProfile.from_bytes(resources.artifacts.read_bytes(found.artifact)).group == 2
    made = create(model=name, text="the quick brown fox " * 20, context_id=name)
    assert (made.codec, made.profile) == ("transform", found.artifact)
    assert (await client.codec.load(made.name)).kv.tokens == made.token_count
    again = calibrate(request, JobContext("job", "me", 1, NullProgress(), resources))
    assert again == found


@pytest.mark.parametrize(
    "damaged", ["model.layers.1.self_attn.k_proj.weight", "model.layers.1.mlp.down_proj.weight"]
)
async def test_a_model_that_gives_nan_is_told_and_gets_no_profile(client, resources, tmp_path, damaged):
    folder = write_tiny_model(tmp_path / "broken", seed=99)
    weights = load_file(folder / "model.safetensors")
    weights[damaged][0, 0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    name = f"broken-{len(damaged)}"
    register(name, str(folder), resources.models, resources.settings, NullProgress())
    with pytest.raises(FailedPrecondition) as refused:
        calibrate(
            pb.CalibrateRequest(model=name, documents=6, document_tokens=64),
            JobContext("job", "me", 1, NullProgress(), resources),
        )
    assert refused.value.reason == Reason.KV_NOT_FINITE
    with pytest.raises(NotFound):
        await client.codec.get_profile(model=name)
