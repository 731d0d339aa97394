"""Callers of every room at once, each call with a deadline, and a record of how each ended and what was promised."""

import asyncio
import hashlib
import itertools
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from palimpsest import AsyncClient, Client, errors
from palimpsest.api.artifacts.v1 import artifacts_pb2 as pb
from palimpsest.client.corpora import NewDocument

DEADLINE = 10.0
OVERRUN = 3.0
"""Seconds a call may take beyond its deadline on a machine where processes are just being started again."""
JOBS = 30
NOT_THE_SERVERS_FAULT = (errors.InvalidArgument, errors.NotFound, errors.PermissionDenied, errors.Internal)
"""What no kill excuses: the calls are right, and what they name exists."""


@dataclass
class Seen:
    """What the callers have seen; shared by their threads.

    Attributes
    ----------
    ended
        (operation, seconds, error or None) of every call that ended.
    artifacts, documents, jobs
        Contents by digest, texts by name, job names by request id: all that a server has acknowledged.
    """

    ended: list[tuple[str, float, BaseException | None]] = field(default_factory=list)
    artifacts: dict[str, bytes] = field(default_factory=dict)
    documents: dict[str, bytes] = field(default_factory=dict)
    jobs: dict[str, str] = field(default_factory=dict)

    def late(self) -> list[tuple[str, float]]:
        """Calls that outlived their deadline."""
        return [(name, seconds) for name, seconds, _ in self.ended if seconds > DEADLINE + OVERRUN]

    def wrong(self) -> list[tuple[str, BaseException]]:
        """Errors that are none of a server that is away."""
        expected = (errors.PalimpsestError,)
        return [
            (name, error)
            for name, _, error in self.ended
            if error is not None
            and (not isinstance(error, expected) or isinstance(error, NOT_THE_SERVERS_FAULT))
        ]


@dataclass(frozen=True)
class Nouns:
    """What the calls name."""

    model: str
    corpus: str
    context: str
    lines: str
    """Digest of a batch's input."""


Operation = Callable[[Any, Nouns, Seen, random.Random], Any]


def generate(client: Any, nouns: Nouns, seen: Seen, dice: random.Random) -> Any:
    """A stream of some tokens."""
    return client.decoding.text(
        model=nouns.model,
        prompt="the quick brown fox",
        max_tokens=dice.randint(1, 200),
        ignore_eos=True,
        timeout=DEADLINE,
    )


def score(client: Any, nouns: Nouns, seen: Seen, dice: random.Random) -> Any:
    """A unary call of the engine."""
    return client.decoding.score(model=nouns.model, text="the quick brown fox", timeout=DEADLINE)


def look(client: Any, nouns: Nouns, seen: Seen, dice: random.Random) -> Any:
    """A unary call of the registry."""
    return client.models.get_model(model_id=nouns.model, timeout=DEADLINE)


def search(client: Any, nouns: Nouns, seen: Seen, dice: random.Random) -> Any:
    """A unary call of the datastore."""
    return client.datastore.search(corpora=[nouns.corpus], query="fox", limit=2, timeout=DEADLINE)


def estimate(client: Any, nouns: Nouns, seen: Seen, dice: random.Random) -> Any:
    """A unary call of the codec."""
    return client.codec.estimate(name=nouns.context, settings={"bandwidth": 1e7}, timeout=DEADLINE)


ALIKE: tuple[Operation, ...] = (generate, score, look, search, estimate)
"""Called the same way on both clients."""


def load(client: Client, nouns: Nouns, seen: Seen, dice: random.Random) -> Any:
    """A stream in both directions."""
    return client.codec.load(nouns.context, timeout=DEADLINE)


def add(client: Client, nouns: Nouns, seen: Seen, dice: random.Random) -> None:
    """A document, of which an answer promises that it stays."""
    name = f"document-{dice.getrandbits(64):x}"
    text = f"the quick brown fox {name} " * 8
    for answer in client.datastore.add(nouns.corpus, [NewDocument(name, text)], timeout=DEADLINE):
        if not answer.HasField("error"):
            seen.documents[name] = text.encode()


def submit(client: Client, nouns: Nouns, seen: Seen, dice: random.Random) -> None:
    """A job under a request id, sent again by the next call until it is accepted; once there are enough, a list."""
    if len(seen.jobs) == JOBS:
        client.jobs.list()
        return
    waiting = f"batch-{len(seen.jobs)}"
    job = client.decoding.generate_batch(
        model=nouns.model, input=nouns.lines, request_id=waiting, skip_cache=True, timeout=DEADLINE
    )
    seen.jobs[waiting] = job.name


def store(client: Client, nouns: Nouns, seen: Seen, dice: random.Random) -> None:
    """An artefact, in one message after its opening."""
    data = dice.randbytes(100_000)
    opening = pb.WriteArtifactRequest.Open(
        digest=f"sha256:{hashlib.sha256(data).hexdigest()}",
        size_bytes=len(data),
        upload_id=f"chaos-{dice.getrandbits(64):x}",
    )
    parts = [
        pb.WriteArtifactRequest(open=opening),
        pb.WriteArtifactRequest(chunk=pb.WriteArtifactRequest.Chunk(offset=0, data=data)),
        pb.WriteArtifactRequest(finish=True),
    ]
    stored = client.artifacts.write_artifact(iter(parts), timeout=DEADLINE)
    seen.artifacts[stored.digest] = data


BLOCKING: tuple[Operation, ...] = (*ALIKE, load, add, submit, store)


class Callers:
    """A thread for each operation of the blocking client, and one loop with all of the asyncio client's."""

    def __init__(self, target: str, nouns: Nouns, seed: int) -> None:
        self.seen = Seen()
        self._target, self._nouns, self._seed = target, nouns, seed
        self._ending = threading.Event()
        jobs = [(operation.__name__, self._call_in_turn, (operation,)) for operation in BLOCKING]
        jobs.append(("asyncio", self._call_on_a_loop, ()))
        self.threads = [
            threading.Thread(target=work, args=args, name=name, daemon=True) for name, work, args in jobs
        ]

    def start(self) -> None:
        """Begin to call."""
        for thread in self.threads:
            thread.start()

    def stop(self) -> list[str]:
        """Let the last calls end; return the threads that hang."""
        self._ending.set()
        deadline = time.monotonic() + DEADLINE + OVERRUN
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return [thread.name for thread in self.threads if thread.is_alive()]

    def _call_in_turn(self, operation: Operation) -> None:
        dice = random.Random(f"{self._seed} {operation.__name__}")
        with Client(self._target, timeout=DEADLINE) as client:
            while not self._ending.is_set():
                began, error = time.monotonic(), None
                try:
                    operation(client, self._nouns, self.seen, dice)
                except Exception as caught:
                    error = caught
                self.seen.ended.append((operation.__name__, time.monotonic() - began, error))

    def _call_on_a_loop(self) -> None:
        asyncio.run(self._call_together())

    async def _call_together(self) -> None:
        async def in_turn(client: AsyncClient, operation: Operation, number: int) -> None:
            dice = random.Random(f"{self._seed} {operation.__name__} {number}")
            while not self._ending.is_set():
                began, error = time.monotonic(), None
                try:
                    await operation(client, self._nouns, self.seen, dice)
                except Exception as caught:
                    error = caught
                name = f"{operation.__name__} on asyncio"
                self.seen.ended.append((name, time.monotonic() - began, error))

        async with AsyncClient(self._target, timeout=DEADLINE) as client:
            pairs = itertools.product(ALIKE, range(2))
            await asyncio.gather(*(in_turn(client, operation, number) for operation, number in pairs))
