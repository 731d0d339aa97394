"""Generation for every line of a JSONL file: several lines in the batch at once, results in the order of the lines."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palimpsest.engine import Delta, Engine, Event, Failed, Finished, Request, RequestState, Started
from palimpsest.errors import InvalidArgument, PalimpsestError, Reason
from palimpsest.lm import encode_chat, encode_text

LARGEST_LINE = 16 << 20
"""Bytes of one line."""


class Message(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "user", "assistant"]
    content: str


class Line(BaseModel):
    """What a line may say; what it does not say comes from the request."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: str | int | None = None
    prompt: str | None = None
    messages: list[Message] | None = Field(None, min_length=1, max_length=1000)
    max_tokens: int | None = Field(None, ge=1, le=1_000_000)
    temperature: float | None = Field(None, ge=0, le=100)
    top_k: int | None = Field(None, ge=0, le=10_000_000)
    top_p: float | None = Field(None, ge=1e-9, le=1)
    min_p: float | None = Field(None, ge=0, le=1)
    seed: int | None = Field(None, ge=0, lt=1 << 64)
    n: int | None = Field(None, ge=1, le=64)
    stop: str | list[str] | None = None
    logprobs: int | None = Field(None, ge=-1, le=64)


@dataclass
class Totals:
    """Counts over all lines."""

    succeeded: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0


@dataclass
class Result:
    """The output line for one input line, and what it adds to the totals."""

    text: bytes
    totals: Totals


def read_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file without their ends; a line over the limit is cut one byte past it."""
    while line := file.readline(LARGEST_LINE + 1):
        if not line.endswith(b"\n"):
            while (rest := file.readline(LARGEST_LINE)) and not rest.endswith(b"\n"):
                pass
        yield line.rstrip(b"\r\n")


def line_seed(salt: str, index: int) -> int:
    """The seed of a line that names none: the same whenever the same batch is run."""
    return int.from_bytes(hashlib.sha256(f"{salt}/{index}".encode()).digest()[:8], "big") >> 1


def parse_line(line: bytes, defaults: Request, seed: int, tokenizer: Any) -> tuple[object, Request]:
    """Read one line: its id and its request.

    Raises
    ------
    InvalidArgument
        BATCH_LINE_INVALID, or what is wrong with the prompt.
    """
    if len(line) > LARGEST_LINE:
        raise InvalidArgument(Reason.BATCH_LINE_INVALID, f"The line is longer than {LARGEST_LINE} bytes.")
    try:
        given = Line.model_validate_json(line)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'line'}: {e['msg']}" for e in error.errors()[:5]
        )
        raise InvalidArgument(
            Reason.BATCH_LINE_INVALID, f"The line is no valid request: {problems}"
        ) from error
    if (given.prompt is None) == (given.messages is None):
        raise InvalidArgument(
            Reason.BATCH_LINE_INVALID, "A line has either a prompt or messages, and not both."
        )
    stop = [given.stop] if isinstance(given.stop, str) else given.stop
    if stop is not None and (len(stop) > 16 or any(len(s) > 256 for s in stop)):
        raise InvalidArgument(
            Reason.BATCH_LINE_INVALID, "A line has at most 16 stop strings of at most 256 characters."
        )
    if given.messages is not None:
        ids = encode_chat(tokenizer, [m.model_dump() for m in given.messages])
    else:
        ids = encode_text(tokenizer, given.prompt or "")
    names = ("temperature", "top_k", "top_p", "min_p", "seed")
    said = {name: getattr(given, name) for name in names if getattr(given, name) is not None}
    logprobs = defaults.logprobs if given.logprobs is None else given.logprobs
    request = replace(
        defaults,
        ids=ids,
        sampling=replace(defaults.sampling, **{"seed": seed, **said}),
        n=given.n or defaults.n,
        max_tokens=given.max_tokens or defaults.max_tokens,
        stop=tuple(defaults.stop if stop is None else stop),
        logprobs=None if logprobs is None or logprobs < 0 else logprobs,
    )
    return given.id, request


class _Job:
    """One line in the engine."""

    def __init__(self, index: int, name: object, request: Request, done: Callable[["_Job"], None]) -> None:
        self.index, self.name, self.request, self._done = index, name, request, done
        self.handle: RequestState | None = None
        self.error: PalimpsestError | None = None
        self._prompt_tokens = 0
        self._choices: dict[int, list[Any]] = {}
        self._finished: dict[int, Finished] = {}

    def deliver(self, events: Sequence[Event]) -> None:
        """Take events on the engine's thread."""
        for event in events:
            match event:
                case Started():
                    self._prompt_tokens = event.prompt_tokens
                case Delta():
                    self._choices.setdefault(event.index, []).extend(event.choices)
                case Finished():
                    self._finished[event.index] = event
                case Failed():
                    self.error = event.error
        if self.error is not None or len(self._finished) == self.request.n:
            self._done(self)

    def result(self) -> Result:
        """The output line."""
        outputs = []
        for index in range(self.request.n):
            end = self._finished[index]
            output: dict[str, object] = {
                "text": end.text,
                "finish_reason": end.reason.value,
                "prompt_tokens": self._prompt_tokens,
                "generated_tokens": end.generated_tokens,
                "logprob": end.logprob,
                "seed": self.request.sampling.seed,
            }
            if end.stop:
                output["stop"] = end.stop
            if self.request.logprobs is not None:
                output["logprobs"] = [
                    {"id": c.id, "logprob": c.logprob, "top": [{"id": i, "logprob": p} for i, p in c.top]}
                    for c in self._choices.get(index, [])
                ]
            outputs.append(output)
        generated = sum(f.generated_tokens for f in self._finished.values())
        text = _write({"id": self.name, "index": self.index, "outputs": outputs})
        return Result(text, Totals(1, 0, self._prompt_tokens, generated))


def _write(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _error_result(index: int, name: object, error: PalimpsestError) -> Result:
    body = {"code": error.code.name, "reason": error.reason, "message": error.message}
    return Result(_write({"id": name, "index": index, "error": body}), Totals(failed=1))


def _name_of(line: bytes) -> object:
    """The id of a line that is otherwise wrong, if it has one."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    name = value.get("id") if isinstance(value, dict) else None
    return name if isinstance(name, str | int) and not isinstance(name, bool) else None


def generate_lines(
    engine: Engine,
    lines: Iterator[tuple[int, bytes]],
    defaults: Request,
    salt: str,
    window: int,
    check: Callable[[], None],
    seed: int | None = None,
) -> Iterator[Result]:
    """Generate for numbered lines, ``window`` of them in the engine at once; results come in order.

    Parameters
    ----------
    engine
        Used by this batch, and possibly by others.
    lines
        Line numbers and lines.
    defaults
        For what a line does not say. Its ``ids`` are not used.
    salt
        Seeds of lines that name none are derived from this and their number.
    window
        Lines in flight.
    check
        Called a few times a second; raises to stop.
    seed
        Seed for all lines that name none, in place of derived ones.

    Raises
    ------
    Unavailable
        ENGINE_FAILED.
    """
    changed = threading.Condition()
    results: dict[int, Result] = {}
    flying: dict[int, _Job] = {}
    broken: list[PalimpsestError] = []

    def done(job: _Job) -> None:
        with changed:
            flying.pop(job.index, None)
            if job.error is not None:
                broken.append(job.error)
            else:
                results[job.index] = job.result()
            changed.notify_all()

    def start(index: int, line: bytes) -> None:
        name = None
        try:
            own = line_seed(salt, index) if seed is None else seed
            name, request = parse_line(line, defaults, own, engine.model.tokenizer)
            job = _Job(index, name, request, done)
            engine.check(request)
        except PalimpsestError as error:
            results[index] = _error_result(index, name if name is not None else _name_of(line), error)
            return
        with changed:
            flying[index] = job
        job.handle = _submit(engine, job, check)

    expected: list[int] = []
    try:
        more = True
        while more or expected:
            while more and len(expected) < window:
                index, line = next(lines, (-1, b""))
                more = index >= 0
                if more:
                    expected.append(index)
                    start(index, line)
            with changed:
                while expected and expected[0] not in results and not broken:
                    changed.wait(0.25)
                    check()
                if broken:
                    raise broken[0]
            check()
            while expected and expected[0] in results:
                yield results.pop(expected.pop(0))
    finally:
        for job in list(flying.values()):
            if job.handle is not None:
                job.handle.cancel()


def _submit(engine: Engine, job: _Job, check: Callable[[], None]) -> RequestState:
    """Submit, waiting while the engine's queue is full of others' requests."""
    while True:
        try:
            return engine.submit(job.request, job.deliver)
        except PalimpsestError as error:
            if error.reason != Reason.ENGINE_QUEUE_FULL:
                raise
            check()
            time.sleep(0.1)
