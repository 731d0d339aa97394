"""What transitions.lua is called with and what it replies, as types shared by the blocking and the asyncio store."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Generic, NamedTuple, TypeVar

from palimpsest.errors import FailedPrecondition, InvalidArgument, NotFound, Reason, ResourceExhausted
from palimpsest.jobs.record import JobRecord, newer

T = TypeVar("T")
Reply = Sequence[Any]


@cache
def script(grows: bool) -> str:
    """Return transitions.lua with the flags Redis reads from its first line.

    A transition that grows the store is refused before its first write when Redis is full. All others are allowed,
    so that a full store can still publish the results of jobs that run, and finish, expire and delete jobs.
    """
    body = files("palimpsest.jobs").joinpath("transitions.lua").read_text()
    return ("#!lua flags=\n" if grows else "#!lua flags=allow-oom\n") + body


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One run of transitions.lua.

    Attributes
    ----------
    transition, arguments
        ARGV of the script.
    parse
        Turns the reply's first word and the rest into the answer.
    grows
        Whether the transition adds to the store; see :func:`script`.
    durable
        Whether the caller waits until the append-only file has the change.
    """

    transition: str
    arguments: Mapping[str, object]
    parse: Callable[[str, Reply], T]
    grows: bool = False
    durable: bool = False

    def read(self, reply: Reply) -> T:
        """Return the answer in the script's reply, or raise the error it stands for."""
        word = as_text(reply[0])
        if word == "newer":
            raise newer(as_text(reply[1]))
        return self.parse(word, reply[1:])


class Claim(NamedTuple):
    """The attempt that a heartbeat, a checkpoint or a finish belongs to; any other attempt's is refused."""

    job_id: str
    attempt: int
    owner: str
    worker: str


class Beat(NamedTuple):
    """Reply to a heartbeat: whether the lease is lost, and what is asked of the attempt."""

    lost: bool
    cancel: bool
    drain: bool


class QueueStats(NamedTuple):
    """State of one queue.

    Attributes
    ----------
    queued, running
        Jobs waiting and running.
    age
        Seconds the oldest queued job has waited.
    served
        Whether a live worker takes jobs from the queue.
    """

    queued: int
    running: int
    age: float
    served: bool = False


class Stats(NamedTuple):
    """All-time counters (see transitions.lua) and the state of each queue."""

    counters: dict[str, int]
    queues: dict[str, QueueStats]


class Sweep(NamedTuple):
    """How much one sweep did, whether there may be more to do at once, and the (job id, queue) pairs to announce."""

    lapsed: int
    timed_out: int
    forgotten: int
    more: bool
    hints: list[tuple[str, str]]


def not_found(job_id: str) -> NotFound:
    """Build the error for a job that does not exist, or that the caller may not know of."""
    return NotFound(
        Reason.JOB_NOT_FOUND,
        f"There is no job {job_id}; it was never submitted, was deleted, or its retention has passed.",
        metadata={"job": job_id},
    )


def collecting(digest: str) -> NotFound:
    """Build the error for an artefact that garbage collection is deleting."""
    return NotFound(
        Reason.ARTIFACT_NOT_FOUND,
        f"{digest} is being deleted by garbage collection; upload it again.",
        metadata={"digest": digest},
    )


def record_or_refusal(job_id: str) -> Callable[[str, Reply], JobRecord]:
    """Return a parser of replies that hold the record, or the reason a submit, retry or cancel was refused."""

    def parse(word: str, rest: Reply) -> JobRecord:
        if word == "ok":
            return JobRecord.parse(rest[0])
        if word == "reused":
            raise InvalidArgument.field(
                Reason.REQUEST_ID_REUSED,
                "request_id",
                f"was used before, for job {as_text(rest[0])}, with another request; choose a new one.",
            )
        if word == "full":
            raise ResourceExhausted(
                Reason.JOB_QUEUE_FULL, "The queue is full; send the same request again later.", retry_after=10
            )
        if word == "quota":
            raise ResourceExhausted(
                Reason.QUOTA_EXCEEDED,
                "You have reached your limit of waiting jobs; send the same request again when some have run.",
                retry_after=10,
            )
        if word == "collecting":
            raise collecting(as_text(rest[0]))
        if word == "refused":
            raise FailedPrecondition(
                Reason.JOB_NOT_RETRYABLE,
                f"The job is {as_text(rest[0])}; only FAILED and CANCELLED jobs are retried.",
            )
        raise not_found(job_id)

    return parse


def held(word: str, _rest: Reply) -> bool:
    """Parse the reply to an attempt's call: False if the attempt no longer holds the job."""
    return word == "ok"


def as_text(value: bytes | str) -> str:
    """Return a value of a reply as text."""
    return value.decode() if isinstance(value, bytes) else value
