"""Handlers for tests, loaded by a worker through PALIMPSEST_HANDLER_MODULES. They write down what happens."""

import os
import random
import signal
import time
from pathlib import Path

from google.protobuf.struct_pb2 import Struct

from palimpsest.errors import NotFound, Reason
from palimpsest.jobs import JobContext, handler
from palimpsest.progress import Drain


def _note(request: Struct, job: JobContext, what: str) -> None:
    with (Path(request["folder"]) / job.job_id).open("a") as file:
        file.write(f"{what}\n")


def _result(**fields: object) -> Struct:
    result = Struct()
    result.update(fields)
    return result


def _until_opened(request: Struct, job: JobContext) -> None:
    """Work in small steps until the test opens the gate."""
    gate = Path(request["folder"]) / f"{job.job_id}.gate"
    step = 0
    while not gate.exists():
        job.progress.step(step % 100, 100, "waiting")
        step += 1
        time.sleep(0.02)


@handler("test.echo", request=Struct, response=Struct, seconds=600.0)
def echo(request: Struct, job: JobContext) -> Struct:
    _note(request, job, "ran")
    job.progress.step(1, 4, "echoing")
    return _result(text=request["text"], attempt=job.attempt)


@handler("test.gate", request=Struct, response=Struct, seconds=600.0)
def gate(request: Struct, job: JobContext) -> Struct:
    _note(request, job, "started")
    _until_opened(request, job)
    return _result(attempt=job.attempt, pid=os.getpid())


@handler("test.resume", request=Struct, response=Struct, seconds=600.0)
def resume(request: Struct, job: JobContext) -> Struct:
    state = job.progress.resume()
    if state is not None:
        _note(request, job, "resumed")
        return _result(step=state["step"], attempt=job.attempt)
    _note(request, job, "started")
    try:
        _until_opened(request, job)
    except Drain:
        job.progress.checkpoint({"step": 7})
        _note(request, job, "drained")
        raise
    return _result(step=0)


@handler("test.stubborn", request=Struct, response=Struct, seconds=600.0)
def stubborn(request: Struct, job: JobContext) -> Struct:
    _note(request, job, "started")
    gate = Path(request["folder"]) / f"{job.job_id}.gate"
    while not gate.exists():
        time.sleep(0.02)
    return _result()


@handler("test.store", request=Struct, response=Struct, seconds=600.0)
def store(request: Struct, job: JobContext) -> Struct:
    """Publish so many bytes, always the same ones."""
    _note(request, job, "started")
    data = random.Random(7).randbytes(int(request["size"]))
    info = job.resources.artifacts.put_bytes(data)
    job.progress.publish(info.digest)
    return _result(digest=info.digest, attempt=job.attempt)


@handler("test.deliver", request=Struct, response=Struct, seconds=600.0)
def deliver(request: Struct, job: JobContext) -> Struct:
    """Wait for the gate, then do everything that a job does to hand over its work."""
    _note(request, job, "started")
    _until_opened(request, job)
    info = job.resources.artifacts.put_bytes(b"the work of " + job.job_id.encode())
    job.progress.partial(_result(digest=info.digest))
    job.progress.checkpoint({"digest": info.digest})
    job.progress.publish(info.digest)
    return _result(digest=info.digest, attempt=job.attempt)


@handler("test.poison", request=Struct, response=Struct, seconds=600.0)
def poison(request: Struct, job: JobContext) -> Struct:
    _note(request, job, "started")
    os.kill(os.getpid(), signal.SIGKILL)
    return _result()


@handler("test.refuse", request=Struct, response=Struct, seconds=600.0)
def refuse(request: Struct, job: JobContext) -> Struct:
    raise NotFound(Reason.MODEL_NOT_FOUND, "No such model.", metadata={"model": "x"})


@handler("test.bug", request=Struct, response=Struct, seconds=600.0)
def bug(request: Struct, job: JobContext) -> Struct:
    raise ZeroDivisionError("secret detail")


@handler("test.partials", request=Struct, response=Struct, seconds=600.0)
def partials(request: Struct, job: JobContext) -> Struct:
    """Publish so many numbers, each as soon as the test has opened its gate."""
    for number in range(int(request["count"])):
        while not (Path(request["folder"]) / f"{job.job_id}.{number}").exists():
            job.progress.step(number, 0)
            time.sleep(0.02)
        job.progress.partial(_result(number=number))
    return _result(count=request["count"])


@handler("test.swallow", request=Struct, response=Struct, seconds=600.0)
def swallow(request: Struct, job: JobContext) -> Struct:
    """Catch everything, as code that keeps going after a bad line does."""
    _note(request, job, "started")
    try:
        _until_opened(request, job)
    except Exception:
        return _result(incomplete=True)
    return _result()
