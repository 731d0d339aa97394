"""Folders of trainings whose last attempt died."""

import os
import time
from pathlib import Path

import pytest
from google.protobuf.struct_pb2 import Struct

from palimpsest.disk import delete_tree, finish_deletions
from palimpsest.errors import Internal, Reason
from palimpsest.jobs import JobSpec, JobStore
from palimpsest.jobs.replies import Claim
from services.registry.leftovers import UNTOUCHED_SECONDS, TrainingSweep
from tests.rooms import room_settings, worker_resources


@pytest.fixture
def jobs(valkey, tmp_path) -> JobStore:
    resources = worker_resources(room_settings(valkey, tmp_path))
    return JobStore(resources.redis, resources.settings)


@pytest.fixture
def sweep(jobs) -> TrainingSweep:
    return TrainingSweep(jobs.settings.models_dir, jobs)


def folder_of(jobs: JobStore, job_id: str, attempt: int = 1) -> Path:
    folder = jobs.settings.models_dir / f".training-{job_id}-{attempt}"
    (folder / "states").mkdir(parents=True)
    (folder / "states" / "weights").write_bytes(b"bits")
    return folder


def submitted(jobs: JobStore) -> str:
    return jobs.submit(JobSpec(kind="test.training", request=Struct(), queue="nobody-serves-this")).id


def test_the_folder_goes_once_the_job_has_ended_and_not_before(jobs, sweep):
    job_id = submitted(jobs)
    folder = folder_of(jobs, job_id)
    sweep.run()
    assert folder.exists()
    record = jobs.claim(job_id, "an owner", "a worker")
    assert record is not None
    sweep.run()
    assert folder.exists()
    jobs.fail(Claim(job_id, record.attempt, record.owner, record.worker), Internal(Reason.BUG, "no luck"))
    sweep.run()
    assert not folder.exists()
    assert not list(jobs.settings.models_dir.iterdir())


def test_the_folder_of_a_job_without_a_record_goes_once_it_is_old(jobs, sweep):
    folder = folder_of(jobs, "of-nobody")
    sweep.run()
    assert folder.exists()
    old = time.time() - UNTOUCHED_SECONDS - 60
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (old, old))
    sweep.run()
    assert not folder.exists()


def test_without_any_model_there_is_nothing_to_do(jobs, sweep):
    assert not jobs.settings.models_dir.exists()
    sweep.run()


def test_a_deletion_that_was_cut_short_is_finished(tmp_path):
    """As if the process had died between the two halves."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model").rename(tmp_path / ".deleted-of-a-process-that-died")
    (tmp_path / "other").mkdir()
    delete_tree(tmp_path / "never-there")
    finish_deletions(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
