"""The engine: one thread that owns a model and decodes many requests in one batch.

Requests join and leave between steps. A step takes one token of every running sequence, and a piece of the first
waiting prompt, so that a long prompt does not hold up running streams.

Memory: a request is admitted only if the cache can hold all its sequences at their full length, so nothing is ever
preempted. Blocks that it shares with others are counted for each, which errs on the safe side.

What a sequence generates does not depend on what else is in the batch, bit for bit, where the model's
``forward_kind`` and ``prefill_kind`` are "compiled". With torch's products, near-ties between tokens may fall
either way, as the library chooses its kernels by the number of rows.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import torch

from palimpsest.errors import (
    PalimpsestError,
    Reason,
    ResourceExhausted,
    Unavailable,
)
from palimpsest.inference.blocks import BLOCK, PagedCache, prefix_keys
from palimpsest.inference.forward import Cache, Rows
from palimpsest.inference.limits import check_request
from palimpsest.inference.model import LanguageModel
from palimpsest.inference.requests import Deliver, Event, Failed, Request, Started
from palimpsest.inference.sampling import Choice
from palimpsest.inference.scoring import Scores, score_chunks
from palimpsest.inference.sequence import Running

log = logging.getLogger(__name__)

PROMPT_ROWS = 256
"""Prompt tokens of one step when nobody is generating."""

PROMPT_ROWS_BESIDE = 64
"""Prompt tokens of one step beside running streams: bounds the pause they see."""


@dataclass
class Counters:
    """What the engine has done since it started."""

    prefill_tokens: int = 0
    prefill_tokens_shared: int = 0
    generated_tokens: int = 0
    decode_steps: int = 0


@dataclass(eq=False)
class Handle:
    """A submitted request."""

    request: Request
    deliver: Deliver
    blocks: int
    keys: list[bytes]
    cancelled: bool = False
    cache: Cache | None = None
    sequences: list[Running] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    started: bool = False
    shared: int = 0

    def cancel(self) -> None:
        """Take the request out before the next step; no more events come."""
        self.cancelled = True


@dataclass(eq=False)
class _Scoring:
    """A text to score, a chunk per step."""

    chunks: Generator[list[Choice]]
    blocks: int
    tokens: list[Choice] = field(default_factory=list)
    future: "Future[Scores]" = field(default_factory=Future)
    admitted: bool = False


class Engine:
    """Continuous batching over one model.

    Parameters
    ----------
    model
        Used by this engine's thread alone from now on.
    max_running
        Most sequences in one step. A single request with more runs alone.
    queue_limit
        Requests that may wait for a place.
    """

    def __init__(self, model: LanguageModel, max_running: int = 32, queue_limit: int = 128) -> None:
        self.model, self.max_running, self.queue_limit = model, max_running, queue_limit
        self.counters = Counters()
        self._lock = threading.Condition()
        self._inbox: deque[Handle] = deque()
        self._tasks: deque[_Scoring] = deque()
        self._prompts: list[Handle] = []
        self._active: list[Handle] = []
        self._reserved = 0
        self._stopping = False
        self._failure: PalimpsestError | None = None
        self._thread = threading.Thread(target=self._main, name="engine", daemon=True)
        self._thread.start()

    # Called from any thread.

    def check(self, request: Request) -> int:
        """Check what can never work; see :func:`check_request`."""
        return check_request(self.model, request)

    def submit(self, request: Request, deliver: Deliver) -> Handle:
        """Queue a request; its events go to ``deliver`` on the engine's thread.

        Raises
        ------
        InvalidArgument, ResourceExhausted
            As :meth:`check`; also ENGINE_QUEUE_FULL, with a time to wait.
        Unavailable
            The engine has failed or is stopping.
        """
        blocks = self.check(request)
        keys = prefix_keys(request.ids[:-1]) if self.model.pool is not None else []
        handle = Handle(request, deliver, blocks, keys)
        with self._lock:
            self._refuse_if_ended()
            if len(self._inbox) >= self.queue_limit:
                raise ResourceExhausted(
                    Reason.ENGINE_QUEUE_FULL,
                    f"{len(self._inbox)} requests are waiting already; send this one again in a moment.",
                    retry_after=1.0,
                )
            self._inbox.append(handle)
            self._lock.notify_all()
        return handle

    def submit_score(self, ids: Sequence[int], top: int = 0, skip: int = 0) -> "Future[Scores]":
        """Queue a text whose tokens are to be scored, each given those before it.

        Cancel the future to give the text up; that takes effect before its next 64 tokens.

        Parameters
        ----------
        ids
            The text's tokens.
        top
            Alternatives to report at each position.
        skip
            Leading tokens that are only context.

        Raises
        ------
        InvalidArgument, ResourceExhausted, Unavailable
            As :meth:`submit`.
        """
        self.check(Request(ids, max_tokens=0))
        task = _Scoring(score_chunks(self.model, ids, top, skip), -(-len(ids) // BLOCK))
        with self._lock:
            self._refuse_if_ended()
            if len(self._tasks) >= self.queue_limit:
                raise ResourceExhausted(
                    Reason.ENGINE_QUEUE_FULL,
                    f"{len(self._tasks)} texts are waiting to be scored; send this one again in a moment.",
                    retry_after=1.0,
                )
            self._tasks.append(task)
            self._lock.notify_all()
        return task.future

    @property
    def running(self) -> int:
        """Sequences in the batch, and requests whose prompt is being read."""
        return sum(len(h.sequences) for h in list(self._active)) + len(self._prompts)

    @property
    def waiting(self) -> int:
        """Requests not admitted yet."""
        return len(self._inbox) + len(self._tasks)

    @property
    def failed(self) -> bool:
        """Whether the engine has ended, by a failure or by :meth:`close`."""
        return self._failure is not None

    @property
    def idle(self) -> bool:
        """Nothing to do."""
        return not (self._active or self._prompts or self._inbox or self._tasks)

    @property
    def cache_bytes_used(self) -> int:
        """Bytes of cache that running requests hold or have a right to."""
        return self._reserved * self.model.block_bytes

    def close(self, timeout: float = 30.0) -> None:
        """Stop after the present step; open requests get SHUTTING_DOWN."""
        with self._lock:
            self._stopping = True
            self._lock.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _refuse_if_ended(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._stopping:
            raise Unavailable(Reason.SHUTTING_DOWN, "The engine is stopping; send the request again.")

    # The engine's thread.

    def _main(self) -> None:
        if not self.model.needs_torch_threads:
            torch.set_num_threads(1)
        try:
            while True:
                with self._lock:
                    while self.idle and not self._stopping:
                        self._lock.wait()
                    if self._stopping:
                        break
                self._step()
            self._end(Unavailable(Reason.SHUTTING_DOWN, "The server is stopping; send the request again."))
        except BaseException as error:
            log.exception("the engine failed")
            self._end(Unavailable(Reason.ENGINE_FAILED, "The engine failed; send the request again."))
            if self.model.device.type == "cuda" and "CUDA" in str(error):
                # Nothing works on a device whose context is broken, and only a new process gets a new one.
                os._exit(70)
        finally:
            self.model.close()

    def _end(self, error: PalimpsestError) -> None:
        with self._lock:
            self._failure = error
            handles = [*self._active, *self._prompts, *self._inbox]
            tasks = list(self._tasks)
            self._inbox.clear()
            self._tasks.clear()
        for handle in handles:
            handle.deliver([Failed(error)])
        for task in tasks:
            _settle(task.future, error)

    def _step(self) -> None:
        self._drop_cancelled()
        self._admit()
        self._score_some()
        sequences = [s for handle in self._active for s in handle.sequences]
        prompts = self._prompt_rows(bool(sequences))
        rows = [Rows(s.cache, [s.next_id]) for s in sequences] + [row for _, row in prompts]
        if not rows:
            return
        outputs = self.model.forward(rows)
        self.counters.decode_steps += bool(sequences)
        by_sequence = {id(s): o.logits[0] for s, o in zip(sequences, outputs, strict=False)}
        for handle in self._active:
            for sequence in handle.sequences:
                handle.events += sequence.accept(by_sequence[id(sequence)])
            self.counters.generated_tokens += len(handle.sequences)
        for (handle, row), output in zip(prompts, outputs[len(sequences) :], strict=True):
            self._after_prompt(handle, row, output.logits)
        self._deliver()

    def _drop_cancelled(self) -> None:
        with self._lock:
            self._inbox = deque(h for h in self._inbox if not h.cancelled)
        for handle in [h for h in (*self._active, *self._prompts) if h.cancelled]:
            self._release(handle)

    def _release(self, handle: Handle) -> None:
        for sequence in handle.sequences:
            sequence.cache.release()
        handle.sequences.clear()
        if handle.cache is not None:
            handle.cache.release()
            handle.cache = None
        for group in (self._active, self._prompts):
            if handle in group:
                group.remove(handle)
        self._reserved -= handle.blocks

    def _admit(self) -> None:
        places = sum(h.request.n for h in (*self._active, *self._prompts))
        with self._lock:
            while self._inbox:
                handle = self._inbox[0]
                fits = places + handle.request.n <= self.max_running or places == 0
                if not fits or self._reserved + handle.blocks > self.model.cache_blocks:
                    return
                self._inbox.popleft()
                places += handle.request.n
                self._reserved += handle.blocks
                handle.cache = self.model.new_cache()
                self._prompts.append(handle)

    def _prompt_rows(self, beside: bool) -> list[tuple[Handle, Rows]]:
        """The prompt pieces of this step.

        Prompts are read in order of arrival. One that starts like a prompt in this very step waits, as its
        blocks will be there in the next.
        """
        chosen: list[tuple[Handle, Rows]] = []
        left = PROMPT_ROWS_BESIDE if beside and self.model.prefill_kind == "compiled" else PROMPT_ROWS
        coming: set[bytes] = set()
        for handle in self._prompts:
            cache = handle.cache
            assert cache is not None
            if isinstance(cache, PagedCache):
                handle.shared += cache.adopt(handle.keys)
                following = handle.keys[cache.length // BLOCK : cache.length // BLOCK + 1]
                if coming.intersection(following):
                    continue
            ids = handle.request.ids
            count = min(left, len(ids) - cache.length)
            if count <= 0:
                break
            last = cache.length + count == len(ids)
            piece = ids[cache.length : cache.length + count]
            chosen.append((handle, Rows(cache, piece, logits="last" if last else "none")))
            coming.update(handle.keys[cache.length // BLOCK : (cache.length + count) // BLOCK])
            left -= count
        return chosen

    def _after_prompt(self, handle: Handle, row: Rows, logits: object) -> None:
        self.counters.prefill_tokens += row.count
        cache, request = handle.cache, handle.request
        assert cache is not None
        if isinstance(cache, PagedCache):
            cache.file(handle.keys[: cache.length // BLOCK])
        if row.logits == "none":
            return
        self.counters.prefill_tokens_shared += handle.shared
        handle.events.append(Started(len(request.ids), handle.shared))
        self._prompts.remove(handle)
        self._active.append(handle)
        model = self.model
        for index in range(request.n):
            own = cache if index == request.n - 1 else cache.branch()
            sequence = Running(request, index, own, model.tokenizer, model.eos_ids)
            handle.sequences.append(sequence)
            handle.events += sequence.accept(logits[0])  # type: ignore[index]
        handle.cache = None
        self.counters.generated_tokens += request.n

    def _deliver(self) -> None:
        for handle in list(self._active):
            for sequence in [s for s in handle.sequences if s.done]:
                sequence.cache.release()
                handle.sequences.remove(sequence)
            events, handle.events = handle.events, []
            if not handle.sequences:
                self._release(handle)
            if events and not handle.cancelled:
                handle.deliver(events)

    def _score_some(self) -> None:
        """Go on with the first text to score, if there is memory for it."""
        if not self._tasks:
            return
        task = self._tasks[0]
        if not task.admitted:
            if self._reserved + task.blocks > self.model.cache_blocks:
                return
            self._reserved += task.blocks
            task.admitted = True
        part = None
        if task.future.cancelled():
            task.chunks.close()
        else:
            part = next(task.chunks, None)
        if part is not None:
            task.tokens += part
            return
        self._reserved -= task.blocks
        with self._lock:
            self._tasks.popleft()
        _settle(task.future, Scores(tuple(task.tokens)))


def _settle(future: "Future[Scores]", result: Scores | PalimpsestError) -> None:
    """Give a future its result, unless its owner has given it up."""
    if not future.set_running_or_notify_cancel():
        return
    if isinstance(result, PalimpsestError):
        future.set_exception(result)
    else:
        future.set_result(result)
