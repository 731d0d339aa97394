"""A run's heartbeat: what it reports at once, what with its next turn, and how often at most."""

import time
from collections.abc import Iterator

import pytest

from palimpsest.errors import Cancelled, DeadlineExceeded
from palimpsest.jobs import JobStore
from palimpsest.jobs import attempt as attempts
from palimpsest.jobs.attempt import SHORTEST_BEAT, Attempt
from palimpsest.jobs.record import JobRecord
from tests.unit.jobs.harness import echo
from tests.waiting import until


@pytest.fixture
def run(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Attempt]:
    """A run whose heartbeat has no turn of its own as long as a test lasts."""
    monkeypatch.setattr(attempts, "LONGEST_BEAT", 3600.0)
    store.settings = store.settings.model_copy(update={"lease_seconds": 10800.0})
    record = store.claim(store.submit(echo()).id, "owner", "worker")
    assert record is not None
    with Attempt(store, record) as run:
        yield run


def kept(store: JobStore, run: Attempt) -> JobRecord:
    return store.get(run.claim.job_id)


def test_a_new_stage_is_reported_without_waiting_for_the_heartbeats_turn(run, store):
    for number, stage in enumerate(("reading", "sorting", "writing"), 1):
        run.step(number, 3, stage)
        until(lambda stage=stage: kept(store, run).stage == stage)
        assert kept(store, run).done == number
    before = kept(store, run).revision
    run.step(3, 4, "writing")
    run.step(4, 4)
    run.step(9, 9, "closing")
    until(lambda: kept(store, run).stage == "closing")
    assert kept(store, run).revision == before + 1  # units alone were left to the next turn


def test_the_end_of_the_time_is_an_interrupt(run, store):
    run.check()
    run.end_after(0.01)
    run.step(1, 2, "a stage brings the heartbeat forward")

    def ended() -> DeadlineExceeded | None:
        try:
            run.check()
        except DeadlineExceeded as error:
            return error
        return None

    error = until(ended)
    assert (error.reason, error.metadata["seconds"]) == ("EXECUTION_TIMEOUT", "0.01")
    assert kept(store, run).state == "RUNNING"  # the runner records the end, once the handler has let go


def test_a_cancellation_outranks_the_end_of_the_time(run):
    run.end_after(0.01)
    run._ask(Cancelled)
    run._ask(DeadlineExceeded)
    with pytest.raises(Cancelled):
        run.check()


def test_stages_that_follow_fast_are_reported_together(run, store):
    before, began = kept(store, run).revision, time.monotonic()
    for number in range(20_000):
        run.step(number, 0, f"stage {number}")
    until(lambda: kept(store, run).stage == "stage 19999")
    reports = kept(store, run).revision - before
    assert reports <= 1 + (time.monotonic() - began) / SHORTEST_BEAT
    assert reports < 1000
