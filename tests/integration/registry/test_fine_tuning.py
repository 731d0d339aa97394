"""FineTune: over a real socket with a real worker, and its handler stopped and started at chosen steps."""

import io
import json
import shutil
import tarfile
import uuid
from pathlib import Path

import pytest
import torch
from google.longrunning import operations_pb2
from safetensors.torch import load

from palimpsest.api.models.v1 import models_pb2 as pb
from palimpsest.errors import (
    AlreadyExists,
    Cancelled,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from palimpsest.lm import load as load_model
from palimpsest.models import register
from palimpsest.progress import Drain, NullProgress
from palimpsest.training import Recipe, train
from services.registry import fine_tuning
from services.registry.fine_tuning_plan import FineTuningPlan
from tests.integration.registry.attempts import DATA, RIDDLE, Attempt, jsonl
from tests.integration.registry.conftest import typed
from tests.rooms import worker_resources
from tests.waiting import until_async

LEARNING: dict[str, object] = {
    "steps": 60,
    "batch": 4,
    "learning_rate": 5e-3,
    "schedule": pb.LEARNING_RATE_SCHEDULE_COSINE,
}


def answer(folder: Path, prompt: str) -> str:
    """What the model in a folder says, each token the likeliest."""
    model = load_model(folder, "cpu", trainable=True, threads=1)
    ids = torch.tensor([model.tokenizer(prompt)["input_ids"]])
    with torch.no_grad():
        made = model.module.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=40, do_sample=False
        )
    return model.tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)


@pytest.fixture
async def base(registry, ended, tiny_model):
    model_id = f"m-{uuid.uuid4().hex[:8]}"
    request = pb.RegisterModelRequest(model_id=model_id, source=str(tiny_model))
    with typed():
        await ended(await registry.models.RegisterModel(request, timeout=20))
    return model_id


@pytest.fixture
def store(registry_settings):
    return worker_resources(registry_settings).artifacts


@pytest.fixture
def upload(store):
    """Store bytes; without a tokens file every caller is the one that holds them."""

    def put(data: bytes) -> str:
        info = store.put_bytes(data)
        store.references.holders.give("local", info.digest, "application/jsonl")
        return info.digest

    return put


@pytest.fixture
def submit(registry, base, upload):
    async def run(data: bytes = DATA, **fields):
        fields = {"base": base, "model_id": f"{base}-child", "train": upload(data), **LEARNING, **fields}
        with typed():
            return await registry.models.FineTune(pb.FineTuneRequest(**fields), timeout=20)

    return run


async def test_a_model_learns_and_is_registered(
    registry, registry_settings, ended, submit, upload, base, store
):
    validation = upload(jsonl({"text": "Page 9: the quick brown fox jumps over 9 lazy dogs."}))
    operation = await submit(
        labels={"for": "riddles"}, validation=validation, validate_every=25, micro_batch=3
    )
    tuned = await ended(operation)
    assert (tuned.model.parent, tuned.model.relation) == (base, pb.RELATION_FINE_TUNED)
    assert tuned.model.source == operation.name
    assert tuned.model.labels == {"for": "riddles"}
    assert (tuned.steps, tuned.effective_batch, tuned.examples) == (60, 4, 8)
    assert tuned.first_loss > 4
    assert tuned.last_loss < 0.3
    assert tuned.validation_loss < tuned.first_loss / 2
    with typed():
        model = await registry.models.GetModel(pb.GetModelRequest(model_id=f"{base}-child"), timeout=10)
        parent = await registry.models.GetModel(pb.GetModelRequest(model_id=base), timeout=10)
    assert model == tuned.model
    assert model.tokenizer_fingerprint == parent.tokenizer_fingerprint
    folder = registry_settings.models_dir / f"fine-tuned-{operation.name.removeprefix('operations/')}"
    assert answer(folder, RIDDLE["prompt"]) == RIDDLE["completion"]
    curve = json.loads(store.read_bytes(tuned.curve.digest))
    assert [len(curve[name]) for name in ("losses", "rates", "norms")] == [60, 60, 60]
    assert [step for step, _ in curve["validation"]] == [25, 50, 60]
    assert curve["validation"][-1][1] == tuned.validation_loss
    with typed():
        await registry.models.DeleteModel(pb.DeleteModelRequest(model_id=f"{base}-child"), timeout=10)
    assert not folder.exists()


async def test_an_adapter_learns_and_is_merged(registry_settings, ended, submit):
    operation = await submit(lora=pb.LoraConfig(rank=8), learning_rate=2e-2)
    tuned = await ended(operation)
    assert tuned.last_loss < tuned.first_loss / 2
    assert tuned.model.parameter_count > 0
    assert not tuned.HasField("adapter")


async def test_an_adapter_is_kept_apart(registry, ended, submit, base, store):
    tuned = await ended(
        await submit(model_id="", lora=pb.LoraConfig(rank=2, targets=["q_proj"], unmerged=True), steps=2)
    )
    assert not tuned.HasField("model")
    with tarfile.open(fileobj=io.BytesIO(store.read_bytes(tuned.adapter.digest))) as tar:
        files = {entry.name: tar.extractfile(entry).read() for entry in tar}
    config = json.loads(files["adapter_config.json"])
    assert (config["r"], config["lora_alpha"], config["target_modules"]) == (2, 4, ["q_proj"])
    assert config["base_model_name_or_path"] == base
    assert len(load(files["adapter_model.safetensors"])) == 4, "two matrices in each of two layers"


async def test_a_cancelled_training_leaves_nothing(registry, registry_settings, ended, submit, base):
    operation = await submit(steps=1_000_000)

    async def running():
        found = await registry.operations.GetOperation(
            operations_pb2.GetOperationRequest(name=operation.name), timeout=10
        )
        return b"training, loss" in found.metadata.value

    await until_async(running, 60)
    await registry.operations.CancelOperation(
        operations_pb2.CancelOperationRequest(name=operation.name), timeout=10
    )
    with pytest.raises(Cancelled):
        await ended(operation)
    with pytest.raises(NotFound), typed():
        await registry.models.GetModel(pb.GetModelRequest(model_id=f"{base}-child"), timeout=10)
    job = operation.name.removeprefix("operations/")
    assert not [path for path in registry_settings.models_dir.iterdir() if job in path.name]


@pytest.mark.parametrize(
    ("fields", "error", "reason"),
    [
        ({"base": "nobody"}, NotFound, "MODEL_NOT_FOUND"),
        ({"train": "sha256:" + "0" * 64}, NotFound, "ARTIFACT_NOT_FOUND"),
        ({"validation": "sha256:" + "0" * 64}, NotFound, "ARTIFACT_NOT_FOUND"),
        ({"model_id": ""}, InvalidArgument, "INVALID_REQUEST"),
        ({"lora": pb.LoraConfig(unmerged=True)}, InvalidArgument, "INVALID_REQUEST"),
        ({"context": 4096}, InvalidArgument, "INVALID_REQUEST"),
        ({"devices": 5}, InvalidArgument, "INVALID_REQUEST"),
        ({"context": 1}, InvalidArgument, "INVALID_REQUEST"),
        ({"format": 9}, InvalidArgument, "INVALID_REQUEST"),
        ({"schedule": 9}, InvalidArgument, "INVALID_REQUEST"),
        ({"steps": -1}, InvalidArgument, "INVALID_REQUEST"),
        ({"learning_rate": float("nan")}, InvalidArgument, "INVALID_REQUEST"),
    ],
)
async def test_refused_by_the_server(submit, fields, error, reason):
    with pytest.raises(error) as caught:
        await submit(**fields)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("data", "fields", "error", "reason"),
    [
        (jsonl(RIDDLE, {"txt": "?"}), {}, InvalidArgument, "TRAINING_DATA_INVALID"),
        (b"", {}, InvalidArgument, "TRAINING_DATA_EMPTY"),
        (DATA, {"lora": pb.LoraConfig(targets=["lm_head"])}, InvalidArgument, "ADAPTER_INVALID"),
        (
            DATA,
            {"learning_rate": 10.0, "weight_decay": 10.0, "steps": 60},
            FailedPrecondition,
            "TRAINING_DIVERGED",
        ),
        (b"\xff", {"format": pb.EXAMPLE_FORMAT_PLAIN_TEXT}, InvalidArgument, "TRAINING_DATA_INVALID"),
    ],
)
async def test_refused_by_the_job(registry, ended, submit, base, data, fields, error, reason):
    with pytest.raises(error) as caught:
        await ended(await submit(data, **fields))
    assert caught.value.reason == reason
    with pytest.raises(NotFound), typed():
        await registry.models.GetModel(pb.GetModelRequest(model_id=f"{base}-child"), timeout=10)


async def test_an_id_that_is_taken_is_refused_before_any_training(ended, submit, base):
    with pytest.raises(AlreadyExists) as caught:
        await ended(await submit(model_id=base, steps=10_000_000))
    assert caught.value.reason == "MODEL_EXISTS"


def stored(room):
    infos, _ = room.resources.artifacts.list()
    return {info.digest for info in infos} - {room.train}


@pytest.mark.parametrize("lora", [None, pb.LoraConfig(rank=2)])
def test_attempts_that_drain_end_with_the_model_of_one_that_does_not(room, lora):
    whole = room.attempt("whole", Attempt(), lora=lora)
    assert stored(room) == {whole.curve.digest}
    state, kept = None, []
    for number, stop in enumerate((4, 4, 7), 1):
        progress = Attempt(state, stop)
        with pytest.raises(Drain):
            room.attempt("parts", progress, number, lora=lora)
        state = progress.resume()
        kept.append(state["step"])
        assert len(stored(room) - {whole.curve.digest}) == 3, "one state: weights, moments, manifest"
    parts = room.attempt("parts", Attempt(state), 4, lora=lora)
    assert kept == [4, 4, 7]
    assert parts.model.fingerprint == whole.model.fingerprint
    assert parts.last_loss == whole.last_loss
    assert parts.curve.digest == whole.curve.digest
    assert stored(room) == {whole.curve.digest}, "the states are gone"
    left = {path.name for path in room.resources.settings.models_dir.iterdir() if path.is_dir()}
    assert left == {"fine-tuned-whole", "fine-tuned-parts"}


@pytest.mark.parametrize("lost", ["artifact", "files"])
def test_a_state_that_was_collected_costs_time_and_not_the_job(room, lost):
    whole = room.attempt("whole", Attempt())
    progress = Attempt(stop=5)
    with pytest.raises(Drain):
        room.attempt("parts", progress)
    state = progress.resume()
    room.resources.artifacts.delete(state["artifact"] if lost == "artifact" else state["files"][0])
    parts = room.attempt("parts", Attempt(state), 2)
    assert parts.model.fingerprint == whole.model.fingerprint


def test_weights_that_the_last_step_destroyed_are_no_model(room, monkeypatch):
    """The last loss is that of the weights before the last step."""

    def destroying(module, *args, **more):
        history = train(module, *args, **more)
        next(module.parameters()).data[0, 0] = float("nan")
        return history

    monkeypatch.setattr(fine_tuning, "train", destroying)
    with pytest.raises(FailedPrecondition) as caught:
        room.attempt("last", Attempt())
    assert caught.value.reason == "TRAINING_DIVERGED"
    with pytest.raises(NotFound):
        room.resources.models.get("child-last")


def test_a_worker_that_dies_after_registering_registers_once(room):
    first = room.attempt("one", Attempt())
    again = room.attempt("one", Attempt(), 2)
    assert again.model == first.model
    assert again.curve.digest == first.curve.digest
    left = [path.name for path in room.resources.settings.models_dir.iterdir() if path.is_dir()]
    assert left == ["fine-tuned-one"]


def test_checkpoints_are_written_as_asked(room):
    seen = []

    class Noting(Attempt):
        def checkpoint(self, state):
            super().checkpoint(state)
            seen.append(state["step"])

    room.attempt("one", Noting(), checkpoint_every=2)
    assert seen == [2, 4, 6, 8]


@pytest.mark.parametrize(
    ("fields", "steps"), [({}, 3), ({"epochs": 2.0}, 6), ({"epochs": 0.5}, 2), ({"steps": 4}, 4)]
)
def test_how_long_it_trains(room, fields, steps):
    """Eight examples in batches of three are three steps an epoch."""
    made = room.attempt("one", Attempt(), **{"steps": None, **fields})
    assert (made.steps, made.effective_batch) == (steps, 3)


@pytest.mark.parametrize(
    ("epochs", "examples", "steps"), [(1.1, 20, 11), (2.2, 10, 11), (1.11, 20, 12), (0.3, 20, 3)]
)
def test_whole_steps_are_not_rounded_up_once_more(epochs, examples, steps):
    """1.1 * 10 is 11.000000000000002 in floating point."""
    plan = FineTuningPlan("b", "m", "t", "", False, 0, epochs, 16, Recipe(steps=1, batch=2))
    assert plan.recipe_for(examples, 1).steps == steps


def test_a_warm_up_longer_than_the_run_is_refused(room):
    with pytest.raises(InvalidArgument) as caught:
        room.attempt("one", Attempt(), warmup_steps=10)
    assert caught.value.reason == "TRAINING_RECIPE_INVALID"
    assert [each.field for each in caught.value.violations] == ["warmup_steps"]
    assert room.attempt("two", Attempt(), warmup_steps=9).steps == 9


def test_a_batch_larger_than_the_set_is_told_as_what_it_was(room):
    made = room.attempt("one", Attempt(), batch=100, steps=2)
    assert made.effective_batch == made.model.training.effective_batch == 8


def test_a_long_text_becomes_windows(room):
    text = " ".join(f"{n} is followed by {n + 1}." for n in range(60))
    train = room.resources.artifacts.put_bytes(text.encode())
    made = room.attempt(
        "one", Attempt(), train=train.digest, format=pb.EXAMPLE_FORMAT_PLAIN_TEXT, context=16, steps=1
    )
    tokens = made.counted_tokens + 1  # the first is not predicted
    assert made.examples == -(-(tokens - 1) // 15)


def test_a_base_that_was_changed_is_not_trained(room, tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "other")
    register("other", str(folder), room.resources.models, room.resources.settings, NullProgress())
    (folder / "config.json").write_text((folder / "config.json").read_text().replace("2048", "1024"))
    with pytest.raises(FailedPrecondition) as caught:
        room.attempt("one", Attempt(), base="other")
    assert caught.value.reason == "MODEL_CHANGED"


def test_a_quantised_base_is_not_trained(room, tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "quantised")
    config = json.loads((folder / "config.json").read_text())
    quantised = {**config, "quantization_config": {"quant_method": "gptq", "bits": 4}}
    (folder / "config.json").write_text(json.dumps(quantised))
    register("quantised", str(folder), room.resources.models, room.resources.settings, NullProgress())
    with pytest.raises(FailedPrecondition) as caught:
        room.attempt("one", Attempt(), base="quantised")
    assert caught.value.reason == "MODEL_INVALID"
    assert "quantised" in caught.value.message
