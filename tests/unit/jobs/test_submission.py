"""What a submission is made of: the queue of what it needs, and what makes two of them equal."""

import pytest
from pydantic import ValidationError

from palimpsest.api.decoding.v1.decoding_pb2 import GenerateBatchRequest
from palimpsest.api.models.v1.models_pb2 import CheckPairRequest
from palimpsest.jobs import JobStore
from palimpsest.jobs.submission import JobSpec, job_spec
from palimpsest.settings import Settings

MODEL = {"method": "test/1", "model": "fingerprint"}


def batch(settings: Settings | None = None, action: dict[str, object] = MODEL, **fields: object) -> JobSpec:
    request = GenerateBatchRequest(**{"model": "m", "max_tokens": 7, **fields})  # type: ignore[arg-type]
    return job_spec(
        "test.batch",
        request,
        settings or Settings(),
        principal="ann",
        needs="model",
        action=action,
        ignore=("model",),
    )


def test_a_job_goes_to_the_queue_of_what_it_needs():
    assert Settings().queue_for("cpu") == "cpu"
    assert batch().queue == Settings().queue_for("model") != "cpu"
    assert batch(Settings(job_queues="model=big")).queue == "big"
    with pytest.raises(ValueError, match="one of cpu, model, train"):
        job_spec("test.x", GenerateBatchRequest(), Settings(), principal="ann", needs="gpu")


def test_needs_are_mapped_by_one_setting():
    settings = Settings(job_queues="model=big, train=big")
    assert settings.job_queues == {"cpu": "cpu", "model": "big", "train": "big"}
    assert settings.queues == settings.own_queues == ("cpu", "big")
    assert Settings(job_queues='{"train": "train"}').queues == ("cpu", "gpu", "train")
    for wrong in ("gpu=cpu", "model", "model=a b", "model="):
        with pytest.raises(ValidationError):
            Settings(job_queues=wrong)


def test_a_worker_owns_every_queue_but_those_it_stands_by_for():
    assert Settings(worker_standby_queues="gpu").own_queues == ("cpu",)
    assert Settings(worker_queues="gpu, train").own_queues == ("gpu", "train")


def test_the_spec_takes_from_the_request_how_it_is_to_be_submitted():
    spec = batch(request_id="r", skip_cache=True)
    assert (spec.request_id, spec.skip_cache, spec.principal) == ("r", True, "ann")
    assert spec.request.max_tokens == 7  # type: ignore[attr-defined]
    plain = job_spec("test.x", CheckPairRequest(base="a"), Settings(), principal="ann")
    assert (plain.skip_cache, plain.action, plain.queue) == (False, None, "cpu")


@pytest.mark.parametrize(
    ("same", "changes"),
    [
        (True, {"request_id": "r"}),
        (True, {"skip_cache": True}),
        (True, {"model": "another name of the same model"}),
        (True, {"settings": Settings(device="cuda", dtype="bfloat16")}),
        (False, {"max_tokens": 8}),
        (False, {"action": {**MODEL, "model": "another fingerprint"}}),
    ],
)
def test_what_decides_the_result_decides_the_action(same, changes):
    """The worker's device and number format are not known at submission, and a request cannot choose them."""
    assert (batch(**changes).action == batch().action) is same


def test_equal_submissions_are_one_job(store: JobStore):
    first = store.submit(batch(request_id="a"))
    assert store.submit(batch(Settings(dtype="float16"), request_id="b")).id == first.id
    assert store.submit(batch(max_tokens=8)).id != first.id


def test_the_handler_finds_the_inputs_in_their_order(store: JobStore):
    digests = [f"sha256:{letter * 64}" for letter in "ba"]
    spec = job_spec("test.x", GenerateBatchRequest(), Settings(), principal="ann", inputs=digests)
    assert store.submit(spec).inputs == tuple(digests)
