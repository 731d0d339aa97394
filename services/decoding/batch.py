"""Generation for every line of a JSONL file: several lines in the engine at once, results in the order of the lines."""

import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from palimpsest.engine import Delta, Event, Failed, Finished, Hosted, Request, RequestState, Started
from palimpsest.errors import Internal, PalimpsestError, Reason
from services.decoding.lines import line_seed, names_of, parse_line

_log = structlog.get_logger(__name__)

_FATAL = frozenset({Reason.ENGINE_FAILED, Reason.SHUTTING_DOWN})
"""Reasons for which no other line could be generated either; every other error belongs to its line."""


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


class _LineJob:
    """One line in the engine."""

    def __init__(
        self, index: int, names: dict[str, object], request: Request, done: Callable[["_LineJob"], None]
    ) -> None:
        self.index, self.names, self.request, self._done = index, names, request, done
        self.submitted: RequestState | None = None
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
                "logprob": _number(end.logprob),
                "seed": self.request.sampling.seed,
            }
            if end.stop:
                output["stop"] = end.stop
            if self.request.logprobs is not None:
                output["logprobs"] = [
                    {
                        "id": c.id,
                        "logprob": _number(c.logprob),
                        "top": [{"id": i, "logprob": _number(p)} for i, p in c.top],
                    }
                    for c in self._choices.get(index, [])
                ]
            outputs.append(output)
        generated = sum(f.generated_tokens for f in self._finished.values())
        text = _write({**self.names, "index": self.index, "outputs": outputs})
        return Result(text, Totals(1, 0, self._prompt_tokens, generated))


def _number(value: float) -> float | None:
    """A number as JSON has it: some models give tokens that they never choose a logit of -inf."""
    return value if math.isfinite(value) else None


def _write(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _error_result(index: int, names: dict[str, object], error: PalimpsestError) -> Result:
    body = {"code": error.code.name, "reason": error.reason, "message": error.message}
    return Result(_write({**names, "index": index, "error": body}), Totals(failed=1))


class _Window:
    """The lines that are in the engine, and the results that wait for earlier ones.

    Parameters
    ----------
    hosted
        The model; its engine is used by this batch, and possibly by others.
    defaults
        For fields that a line leaves out.
    seed_of
        Returns the seed of a line without one.
    check
        Called a few times a second; raises to stop.
    """

    def __init__(
        self, hosted: Hosted, defaults: Request, seed_of: Callable[[int], int], check: Callable[[], None]
    ) -> None:
        self._hosted, self._engine = hosted, hosted.engine
        self._defaults, self._seed_of, self._check = defaults, seed_of, check
        self._changed = threading.Condition()
        self._results: dict[int, Result] = {}
        self._running: dict[int, _LineJob] = {}
        self._fatal: PalimpsestError | None = None

    def start(self, index: int, line: bytes) -> None:
        """Submit a line; an error of its own becomes its result.

        Raises
        ------
        Unavailable
            ENGINE_FAILED or SHUTTING_DOWN.
        """
        names = None
        try:
            names, request = self._parse(index, line)
            job = _LineJob(index, names, request, self._done)
            self._engine.check(request)
            with self._changed:
                self._running[index] = job
            self._submit(job)
        except PalimpsestError as error:
            if error.reason in _FATAL:
                raise
            with self._changed:
                self._running.pop(index, None)
                self._results[index] = _error_result(
                    index, names if names is not None else names_of(line), error
                )

    def _parse(self, index: int, line: bytes) -> tuple[dict[str, object], Request]:
        try:
            return parse_line(line, self._defaults, self._seed_of(index), self._hosted)
        except PalimpsestError:
            raise
        except (
            Exception
        ) as error:  # a bug, or what a model's tokenizer stumbles over: not the other lines' fault
            _log.exception("a line could not be read", line=index)
            raise Internal(
                Reason.REQUEST_FAILED, "The line failed unexpectedly; the worker's log has the details."
            ) from error

    def wait(self, index: int) -> Result:
        """The result of a line that was started; waits for it.

        Raises
        ------
        Unavailable
            ENGINE_FAILED or SHUTTING_DOWN.
        """
        with self._changed:
            while index not in self._results and self._fatal is None:
                self._changed.wait(0.25)
                self._check()
            if self._fatal is not None:
                raise self._fatal
            return self._results.pop(index)

    def cancel(self) -> None:
        """Take the remaining lines out of the engine."""
        for job in list(self._running.values()):
            if job.submitted is not None:
                job.submitted.cancel()

    def _done(self, job: _LineJob) -> None:
        """Take a line's end, on the engine's thread."""
        with self._changed:
            self._running.pop(job.index, None)
            if job.error is None:
                self._results[job.index] = job.result()
            elif job.error.reason in _FATAL:
                self._fatal = job.error
            else:
                self._results[job.index] = _error_result(job.index, job.names, job.error)
            self._changed.notify_all()

    def _submit(self, job: _LineJob) -> None:
        """Submit, waiting while the engine's queue is full of other requests."""
        while True:
            try:
                job.submitted = self._engine.submit(job.request, job.deliver)
                return
            except PalimpsestError as error:
                if error.reason != Reason.ENGINE_QUEUE_FULL:
                    raise
                self._check()
                time.sleep(0.1)


def generate_lines(
    hosted: Hosted,
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
    hosted
        The model; its engine is used by this batch, and possibly by others.
    lines
        Line numbers and lines.
    defaults
        For fields that a line leaves out. Its ``ids`` are not used.
    salt
        Seeds of lines without one are derived from this and the line's number.
    window
        Lines in the engine at once.
    check
        Called a few times a second; raises to stop.
    seed
        Seed of all lines without one, in place of derived ones.

    Raises
    ------
    Unavailable
        ENGINE_FAILED or SHUTTING_DOWN: no further line can be generated. Any other error is the result of its line.
    """
    running = _Window(hosted, defaults, lambda n: line_seed(salt, n) if seed is None else seed, check)
    started: list[int] = []
    try:
        more = True
        while more or started:
            while more and len(started) < window:
                index, line = next(lines, (-1, b""))
                more = index >= 0
                if more:
                    started.append(index)
                    running.start(index, line)
            check()
            if started:
                yield running.wait(started.pop(0))
    finally:
        running.cancel()
