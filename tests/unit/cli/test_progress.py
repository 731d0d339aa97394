"""Progress where there is no terminal, and what an interrupted command says of its job."""

from collections.abc import Iterator

import pytest

from palimpsest.api.jobs.v1.jobs_pb2 import JobMetadata
from palimpsest.cli.output import progress


class Played:
    """A job whose changes are known."""

    name = "operations/0123abcd"

    def __init__(self, *changes: JobMetadata, interrupted: bool = False) -> None:
        self._changes, self._interrupted = changes, interrupted

    def __iter__(self) -> Iterator[JobMetadata]:
        yield from self._changes
        if self._interrupted:
            raise KeyboardInterrupt

    def result(self) -> str:
        return "done"


def test_each_stage_is_a_line_and_its_figures_are_none(capsys: pytest.CaptureFixture[str]):
    job = Played(
        JobMetadata(waiting_reason="waiting behind 1 job of the queue 'cpu'"),
        JobMetadata(stage="loading the model"),
        JobMetadata(stage="reading, 1 of 9"),
        JobMetadata(stage="reading, 2 of 9"),
        JobMetadata(),
    )
    assert progress.follow(job, "Building x") == "done"  # type: ignore[arg-type]
    assert capsys.readouterr().err.splitlines() == [
        "Building x: waiting behind 1 job of the queue 'cpu'",
        "Building x: loading the model",
        "Building x: reading",
    ]


def test_a_long_stage_says_now_and_then_how_far_it_is(capsys, monkeypatch: pytest.MonkeyPatch):
    clock = iter([0.0, 1.0, 5.0, 12.0, 13.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    lines = progress.Lines("Building x")
    for done in range(4):
        lines.tell(JobMetadata(stage="writing", done=done, total=9))
    assert capsys.readouterr().err.splitlines() == ["Building x: writing", "Building x: writing, 2 of 9"]


def test_an_interrupted_command_says_that_its_job_goes_on(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(KeyboardInterrupt):
        progress.follow(Played(JobMetadata(stage="reading"), interrupted=True), "Building x")  # type: ignore[arg-type]
    said = capsys.readouterr().err
    assert "the job goes on" in said
    assert "`palimpsest jobs watch 0123abcd` comes back to it" in said
    assert "`palimpsest jobs cancel 0123abcd` stops it" in said.replace("\n", " ")
