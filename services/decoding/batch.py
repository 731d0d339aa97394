"""Generation for every line of a JSONL file: several lines at once, results in the order of the lines."""

import asyncio
import json
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import structlog

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.client.patience import Patience
from palimpsest.errors import (
    FailedPrecondition,
    Internal,
    NotFound,
    PalimpsestError,
    PermissionDenied,
    Reason,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from services.decoding.lines import line_seed, names_of, parse_line

_log = structlog.get_logger(__name__)

Generate = Callable[[pb.GenerateRequest], AsyncIterator[pb.GenerateResponse]]
"""Generates for one request, as the RPC does; ending the iteration ends the work."""

_FINISHES = {
    pb.FINISH_REASON_LENGTH: "length",
    pb.FINISH_REASON_EOS: "eos",
    pb.FINISH_REASON_STOP: "stop",
}

_FATAL = (Unavailable, Unauthenticated, PermissionDenied, NotFound)
"""Errors for which no other line could be generated either; every other error but MODEL_CHANGED belongs to its line."""

_MOST_ATTEMPTS = 20
"""Attempts at one line that had begun: a line with which a server fails so often is itself the reason."""

_CHECKED_EVERY = 0.25
"""Seconds between looks at whether the job should go on."""


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


@dataclass(frozen=True)
class BatchSettings:
    """What all lines of a batch share.

    Parameters
    ----------
    defaults
        For fields that a line leaves out; without input and seed.
    fingerprint
        Of the model: another one's text would not be this batch's.
    salt
        Seeds of lines without one are derived from this and the line's number.
    seed
        Seed of all lines without one, in place of derived ones.
    window
        Lines at once.
    patience
        Seconds for which a server may be away.
    """

    defaults: pb.GenerateRequest
    fingerprint: str
    salt: str
    seed: int | None
    window: int
    patience: float


class _Outputs:
    """What has come of one attempt at a line."""

    def __init__(self, request: pb.GenerateRequest) -> None:
        self.started = pb.GenerateStarted()
        self._request = request
        self._choices: dict[int, list[pb.TokenLogprob]] = {}
        self._finished: dict[int, pb.SequenceFinished] = {}

    @property
    def began(self) -> bool:
        """Whether the prompt has been read."""
        return bool(self.started.model_fingerprint)

    def take(self, response: pb.GenerateResponse) -> None:
        """Add a response."""
        match response.WhichOneof("event"):
            case "started":
                self.started = response.started
            case "delta":
                self._choices.setdefault(response.delta.index, []).extend(response.delta.logprobs)
            case "finished":
                self._finished[response.finished.index] = response.finished

    def result(self, index: int, names: dict[str, object]) -> Result:
        """The output line."""
        ends = [self._finished[n] for n in range(self._request.n)]
        outputs = [self._output(end) for end in ends]
        text = _write({**names, "index": index, "outputs": outputs})
        generated = sum(end.generated_tokens for end in ends)
        return Result(text, Totals(1, 0, self.started.prompt_tokens, generated))

    def _output(self, end: pb.SequenceFinished) -> dict[str, object]:
        output: dict[str, object] = {
            "text": end.text,
            "finish_reason": _FINISHES[end.reason],
            "prompt_tokens": self.started.prompt_tokens,
            "generated_tokens": end.generated_tokens,
            "logprob": _number(end.logprob),
            "seed": self._request.sampling.seed,
        }
        if end.stop:
            output["stop"] = end.stop
        if self._request.HasField("logprobs") and self._request.logprobs >= 0:
            output["logprobs"] = [
                _logprob(c) | {"top": [_logprob(t) for t in c.top]} for c in self._choices.get(end.index, [])
            ]
        return output


def _logprob(token: pb.TokenLogprob) -> dict[str, object]:
    return {"id": token.id, "logprob": _number(token.logprob)}


def _number(value: float) -> float | None:
    """A number as JSON has it: some models give tokens that they never choose a logit of -inf."""
    return value if math.isfinite(value) else None


def _write(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _error_result(index: int, names: dict[str, object], error: PalimpsestError) -> Result:
    body = {"code": error.code.name, "reason": error.reason, "message": error.message}
    return Result(_write({**names, "index": index, "error": body}), Totals(failed=1))


async def generate_lines(
    generate: Generate,
    lines: Iterator[tuple[int, bytes]],
    settings: BatchSettings,
    check: Callable[[], None],
    take: Callable[[Result], None],
) -> None:
    """Generate for numbered lines, several at once.

    A line whose server is away or full waits and is then generated again, from its beginning; its seed is its own, so
    its text is the same.

    Parameters
    ----------
    generate
        Where the lines are generated.
    lines
        Line numbers and lines.
    settings
        What the lines share.
    check
        Called a few times a second; raises to stop.
    take
        Receives the results in the order of the lines; may raise to stop.

    Raises
    ------
    PalimpsestError
        No further line can be generated: the server stays away, the model is gone or another one, the caller may not
        use it. Any other error is the result of its line.
    """
    running: deque[asyncio.Task[Result]] = deque()
    more = True
    try:
        while more or running:
            while more and len(running) < settings.window:
                index, line = next(lines, (-1, b""))
                more = index >= 0
                if more:
                    running.append(asyncio.create_task(_line(generate, index, line, settings)))
            if running:
                await asyncio.wait([running[0]], timeout=_CHECKED_EVERY)
            check()
            while running and running[0].done():
                take(running.popleft().result())
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _line(generate: Generate, index: int, line: bytes, settings: BatchSettings) -> Result:
    """The result of one line; an error of its own is its result."""
    names: dict[str, object] | None = None
    try:
        seed = line_seed(settings.salt, index) if settings.seed is None else settings.seed
        names, request = parse_line(line, settings.defaults, seed)
        outputs = await _generated(generate, request, settings)
        return outputs.result(index, names)
    except PalimpsestError as error:
        if isinstance(error, _FATAL) or error.reason == Reason.MODEL_CHANGED:
            raise
        if error.reason == Reason.BUG:  # its message differs from one time to the next
            error = _unexpected()
        return _error_result(index, names or names_of(line), error)
    except Exception:  # a bug, or what a model's tokenizer stumbles over: not the other lines' fault
        _log.exception("a line failed", line=index)
        return _error_result(index, names or names_of(line), _unexpected())


def _unexpected() -> PalimpsestError:
    return Internal(Reason.REQUEST_FAILED, "The line failed unexpectedly; the log has the details.")


async def _generated(generate: Generate, request: pb.GenerateRequest, settings: BatchSettings) -> _Outputs:
    """Generate for one line, as often as it takes."""
    patience = Patience(settings.patience)
    begun = 0
    while True:
        outputs = _Outputs(request)
        try:
            async for response in generate(request):
                outputs.take(response)
                if outputs.began and outputs.started.model_fingerprint != settings.fingerprint:
                    raise FailedPrecondition(
                        Reason.MODEL_CHANGED,
                        f"The model {request.model} was replaced while the batch ran. Submit the batch again.",
                    )
            return outputs
        except PalimpsestError as error:
            full = isinstance(error, ResourceExhausted)
            begun += outputs.began and not full
            if full or (outputs.began and begun < _MOST_ATTEMPTS):
                patience.progressed()  # somebody answers
            await asyncio.sleep(patience.pause(error))
