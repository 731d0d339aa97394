"""FineTune on two devices: two processes on the CPU, with the job's own handler as the first of them."""

import json
import os
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file

from palimpsest.errors import Cancelled, FailedPrecondition, Reason, Unavailable
from palimpsest.progress import Drain
from services.registry.fine_tuning_ranks import devices_for
from tests.integration.registry.attempts import Attempt


def others():
    """The processes of the other ranks."""
    return [
        each for each in psutil.Process().children() if "services.registry.training_rank" in each.cmdline()
    ]


def curve(room, made):
    return json.loads(room.resources.artifacts.read_bytes(made.curve.digest))


def weights(room, job):
    return load_file(room.resources.settings.models_dir / f"fine-tuned-{job}" / "model.safetensors")


class Meddling(Attempt):
    """Does something before the step it would stop at."""

    def __init__(self, what, stop):
        super().__init__(stop=stop)
        self.what = what

    def step(self, done, total, stage=""):
        if stage.startswith("training") and done == self.stop:
            self.what()


def test_two_devices_do_what_one_does(room):
    fields = {"batch": 5, "micro_batch": 2, "learning_rate": 1e-3}
    one = room.attempt("one", Attempt(), **fields)
    two = room.attempt("two", Attempt(), devices=2, **fields)
    assert (one.devices, two.devices) == (1, 2)
    for made in (one, two):
        assert (made.steps, made.effective_batch, made.examples) == (9, 5, 8)
        training = made.model.training
        assert (training.steps, training.effective_batch, training.devices) == (9, 5, made.devices)
        assert room.resources.models.get(made.model.model_id).training["effective_batch"] == 5
    assert curve(room, two)["losses"] == pytest.approx(curve(room, one)["losses"], rel=1e-6)
    expected = weights(room, "one")
    for name, weight in weights(room, "two").items():
        assert (weight - expected[name]).norm() <= 1e-5 * expected[name].norm(), name
    assert not others()


def test_attempts_on_two_devices_end_with_the_model_of_one_attempt(room):
    whole = room.attempt("whole", Attempt(), devices=2)
    progress = Attempt(stop=4)
    with pytest.raises(Drain):
        room.attempt("parts", progress, devices=2)
    assert not others()
    state = progress.resume()
    assert (state["step"], state["devices"]) == (4, 2)
    # the worker that goes on would choose one device by itself
    parts = room.attempt("parts", Attempt(state), 2, devices=0)
    assert parts.devices == 2
    assert parts.model.fingerprint == whole.model.fingerprint
    assert parts.curve.digest == whole.curve.digest


def test_a_device_that_is_lost_fails_the_job_and_a_retry_goes_on(room):
    def kill():
        for each in others():
            each.kill()

    progress = Meddling(kill, 5)
    with pytest.raises(Unavailable) as caught:
        room.attempt("lost", progress, devices=2, checkpoint_every=2)
    assert caught.value.reason == Reason.DEVICE_LOST
    assert "device 1 ended with status -9" in caught.value.message
    assert progress.resume()["step"] == 4
    whole = room.attempt("whole", Attempt(), devices=2)
    assert (
        room.attempt("lost", Attempt(progress.resume()), 2, devices=2).model.fingerprint
        == whole.model.fingerprint
    )


def test_a_cancelled_training_ends_its_other_processes(room):
    def cancel():
        assert len(others()) == 1
        raise Cancelled(Reason.JOB_CANCELLED, "enough")

    with pytest.raises(Cancelled):
        room.attempt("gone", Meddling(cancel, 2), devices=2)
    assert not others()
    folder: Path = room.resources.settings.models_dir
    assert not list(folder.glob("*gone*"))


def test_more_devices_than_there_are_is_refused_before_anything_is_loaded(room):
    there = os.cpu_count() or 1
    with pytest.raises(FailedPrecondition) as caught:
        room.attempt("many", Attempt(), devices=there + 1, batch=there + 1)
    assert caught.value.reason == Reason.DEVICES_MISSING
    assert caught.value.metadata == {"devices": str(there + 1), "available": str(there)}


@pytest.mark.parametrize(
    ("wanted", "batch", "device", "gpus", "expected"),
    [
        (0, 8, "cuda", 4, 4),
        (0, 3, "cuda", 4, 3),
        (2, 8, "cuda", 4, 2),
        (0, 8, "cuda:1", 4, 1),
        (0, 8, "cpu", 4, 1),
    ],
)
def test_how_many_devices_train(monkeypatch, wanted, batch, device, gpus, expected):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert devices_for(wanted, batch, torch.device(device)) == expected
