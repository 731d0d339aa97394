"""A clock the test moves, and jobs that do nothing."""

from dataclasses import dataclass

from google.protobuf.wrappers_pb2 import StringValue

from palimpsest.jobs import JobSpec
from palimpsest.jobs.record import JobRecord
from palimpsest.jobs.replies import Claim


@dataclass
class Clock:
    """Milliseconds, moved by hand."""

    now: int = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += round(seconds * 1000)


def run_of(record: JobRecord | None) -> Claim:
    assert record is not None
    return Claim(record.id, record.attempt, record.owner, record.worker)


def echo(text: str = "hello", **fields: object) -> JobSpec:
    return JobSpec(kind="test.echo", request=StringValue(value=text), **fields)  # type: ignore[arg-type]
