"""Jobs as objects: results, progress, errors, cancellation, and a server that goes away meanwhile."""

import json

import pytest

from palimpsest import AsyncJob, Job
from palimpsest.api.artifacts.v1 import artifacts_pb2
from palimpsest.api.jobs.v1 import jobs_pb2
from palimpsest.api.models.v1 import models_pb2
from palimpsest.errors import Cancelled, DeadlineExceeded, FailedPrecondition, NotFound, Reason
from tests.integration.client.proxy import CuttingProxy
from tests.integration.client.twins import Twin

FINAL = {jobs_pb2.JOB_STATE_SUCCEEDED, jobs_pb2.JOB_STATE_FAILED, jobs_pb2.JOB_STATE_CANCELLED}


async def register(twin, model, folder):
    return await twin.call(twin.client.models.register_model, model_id=model, source=str(folder))


@pytest.fixture
async def long_job(twin, tiny_model):
    """A batch that nobody wants to wait for."""
    job = await register(twin, "jobs-tiny", tiny_model)
    await twin.call(job.result, timeout=60)
    lines = "\n".join(json.dumps({"prompt": f"number {i}"}) for i in range(5000))
    artifact = await twin.call(twin.client.artifacts.upload, lines.encode())
    job = await twin.call(
        twin.client.decoding.generate_batch,
        model="jobs-tiny",
        input=artifact.digest,
        max_tokens=400,
        skip_cache=True,
    )
    yield job
    await twin.call(job.cancel)
    await twin.call(job.wait, timeout=60)


async def test_a_result_has_its_type(twin, tiny_model):
    job = await register(twin, "jobs-tiny", tiny_model)
    assert isinstance(job, Job if twin.blocking else AsyncJob)
    assert job.name.startswith("operations/")
    model = await twin.call(job.result, timeout=60)
    assert isinstance(model, models_pb2.Model)
    assert model.model_id == "jobs-tiny"
    assert await twin.call(job.done)
    progress = await twin.call(job.progress)
    assert progress.state == jobs_pb2.JOB_STATE_SUCCEEDED
    assert progress.fraction == 1.0
    again = await twin.call(twin.client.models.get_model, model_id="jobs-tiny")
    assert again == model


async def test_iterating_ends_with_the_end(twin):
    job = await twin.call(twin.client.artifacts.collect_garbage, dry_run=True)
    seen = [snapshot async for snapshot in twin.each(job)]
    assert seen[-1].state == jobs_pb2.JOB_STATE_SUCCEEDED
    assert [s.revision for s in seen] == sorted({s.revision for s in seen})
    assert all(s.state not in FINAL for s in seen[:-1])
    assert isinstance(await twin.call(job.result), artifacts_pb2.CollectGarbageResponse)


async def test_a_jobs_error_is_raised_as_its_own_kind(twin, tiny_model, tmp_path):
    job = await register(twin, "jobs-nothing", tiny_model.parent / f"not-there-{tmp_path.name}")
    with pytest.raises(NotFound) as failed:
        await twin.call(job.result, timeout=60)
    assert failed.value.reason == Reason.MODEL_SOURCE_NOT_FOUND
    operation = await twin.call(job.wait)
    assert operation.HasField("error")


async def test_coming_back_by_name(twin):
    started = await twin.call(twin.client.artifacts.collect_garbage, dry_run=True)
    job = twin.client.job(started.name)
    result = await twin.call(job.result, timeout=60)
    assert isinstance(result, artifacts_pb2.CollectGarbageResponse)


async def test_a_timeout_says_how_far_it_is_and_the_job_goes_on(twin, long_job):
    with pytest.raises(DeadlineExceeded, match="has not ended within") as late:
        await twin.call(long_job.result, timeout=0.2)
    assert late.value.metadata["name"] == long_job.name
    assert not await twin.call(long_job.done)


async def test_cancelling(twin, long_job):
    await twin.call(long_job.cancel)
    with pytest.raises(Cancelled) as cancelled:
        await twin.call(long_job.result, timeout=60)
    assert cancelled.value.reason == Reason.JOB_CANCELLED
    await twin.call(long_job.cancel)  # changes nothing, and is no error


async def test_the_standard_verbs(twin, tiny_model, tmp_path):
    jobs = twin.client.jobs
    failing = await register(twin, "jobs-verbs", tiny_model.parent / f"not-there-{tmp_path.name}")
    operation = await twin.call(jobs.wait, failing.name, timeout=60)
    assert operation.done
    assert (await twin.call(jobs.get, failing.name)).name == failing.name
    kind = (await twin.call(failing.progress)).kind
    listed = await twin.call(jobs.list, filter=f"state=FAILED AND kind={kind}", page_size=1000)
    assert failing.name in {each.name for each in listed.operations}
    retried = await twin.call(jobs.retry, failing.name)
    assert retried.name == failing.name
    with pytest.raises(NotFound):
        await twin.call(retried.result, timeout=60)
    await twin.call(jobs.delete, failing.name)
    with pytest.raises(NotFound) as gone:
        await twin.call(jobs.get, failing.name)
    assert gone.value.reason == Reason.JOB_NOT_FOUND


async def test_refusals_are_typed(twin, long_job):
    with pytest.raises(FailedPrecondition):
        await twin.call(twin.client.jobs.delete, long_job.name)
    with pytest.raises(FailedPrecondition):
        await twin.call(twin.client.jobs.retry, long_job.name)


async def test_the_same_request_id_is_the_same_job(twin, tiny_model, tmp_path):
    ask = {
        "model_id": "jobs-same",
        "source": str(tiny_model.parent / f"none-{tmp_path.name}"),
        "request_id": f"same-{tmp_path.name}",
    }
    first = await twin.call(twin.client.models.register_model, **ask)
    second = await twin.call(twin.client.models.register_model, **ask)
    assert first.name == second.name


async def test_watching_goes_on_through_cuts(twin, kind, stack, long_job):
    async with CuttingProxy(stack.address, [2_000]) as proxy:
        watcher = Twin(kind(proxy.target, token=stack.token))
        revisions = []
        async for seen in watcher.each(watcher.client.job(long_job.name)):
            revisions.append(seen.revision)
            if proxy.connections < 3:
                proxy.cut_all()
            elif not seen.cancel_requested:
                await twin.call(long_job.cancel)
        assert revisions == sorted(set(revisions))
        assert proxy.connections >= 3
        with pytest.raises(Cancelled):
            await watcher.call(watcher.client.job(long_job.name).result)
        await watcher.close()
