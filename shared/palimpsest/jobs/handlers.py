"""The code behind each kind of job: a decorator that registers it, and the context it runs with."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import redis
from google.protobuf.message import Message

from palimpsest.progress import Progress
from palimpsest.settings import Settings

if TYPE_CHECKING:
    from palimpsest.artifacts import ArtifactStore
    from palimpsest.models import ModelCatalogue

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)


class WorkerResources:
    """What every job of a worker may use. Connections and folders are opened on first use.

    Parameters
    ----------
    settings
        The worker's settings.
    client
        Blocking Redis client; available as ``redis``, as in ``Resources`` of a server.
    """

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self.settings = settings
        self.redis = client

    @cached_property
    def artifacts(self) -> "ArtifactStore":
        """The artefact store."""
        from palimpsest.artifacts import ArtifactStore

        return ArtifactStore.from_settings(self.settings, self.redis)

    @cached_property
    def models(self) -> "ModelCatalogue":
        """The registered models."""
        from palimpsest.models import ModelCatalogue

        return ModelCatalogue(self.redis, self.settings.redis_prefix)


@dataclass(frozen=True, slots=True)
class JobContext:
    """One attempt at one job, for its handler.

    Attributes
    ----------
    job_id, attempt
        The job, and which of its attempts this is, from 1.
    principal
        The caller the job works for. Whatever the job reads or writes is that caller's; to call other rooms on the
        caller's behalf, use ``palimpsest.client.peers.client_for(principal, resources.settings)``.
    progress
        Takes progress, checkpoints and partial results, and interrupts the work.
    resources
        Settings and stores.
    inputs
        Digests of the artefacts the submission named, each once, in its order.
    """

    job_id: str
    principal: str
    attempt: int
    progress: Progress
    resources: WorkerResources
    inputs: tuple[str, ...] = ()


class Handler(NamedTuple):
    """Code for one kind of job, and the seconds that one attempt may run."""

    run: Callable[[Any, JobContext], Message]
    request: type[Message]
    response: type[Message]
    seconds: float


_HANDLERS: dict[str, Handler] = {}


def handler(
    kind: str, *, request: type[RequestT], response: type[ResponseT], seconds: float
) -> Callable[
    [Callable[[RequestT, JobContext], ResponseT]],
    Callable[[RequestT, JobContext], ResponseT],
]:
    """Register a function as the code for jobs of a kind.

    It may run more than once for one job: after a crash it resumes from the last checkpoint. Only one result counts.
    A PalimpsestError it raises becomes the job's error unchanged; any other exception becomes INTERNAL.

    Parameters
    ----------
    kind
        ``"room.verb"``; a worker looks for it in ``services/<room>/tasks.py`` first.
    request, response
        The message types it takes and returns.
    seconds
        Longest run of one attempt; it then ends with EXECUTION_TIMEOUT. Choose it for the largest work you know of:
        ``PALIMPSEST_JOB_SECONDS`` replaces it where that is too little.
    """

    def register(
        function: Callable[[RequestT, JobContext], ResponseT],
    ) -> Callable[[RequestT, JobContext], ResponseT]:
        _HANDLERS[kind] = Handler(function, request, response, seconds)
        return function

    return register


def registered(kind: str) -> Handler | None:
    """Return the code for a kind, if the module that has it was imported."""
    return _HANDLERS.get(kind)
