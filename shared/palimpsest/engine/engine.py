"""The engine: one thread that owns a model and decodes many requests in one batch (continuous batching).

Requests join and leave between steps. Each step runs the next token of every sequence (several for drafts and quotes)
and one chunk of the first waiting prompt, so a long prompt does not hold up running streams.

Memory: a request is admitted only if the cache can hold all its sequences at their full length, so no interactive
request is ever preempted. Blocks that requests share are counted for each of them, which errs on the safe side.

Background requests wait in a queue of their own and take what the others leave: memory that no waiting request wants,
which they lose again to the next one that does, and the slack of each step (:mod:`palimpsest.engine.slack`).

What a sequence generates does not depend on what else is in the batch, bit for bit, where the model's
``forward_kind`` and ``prefill_kind`` are "compiled". With torch's products, near-ties between tokens may fall
either way, as the library chooses its kernels by the number of rows.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from palimpsest.engine.batch import Batch, Counters
from palimpsest.engine.budget import CacheBudget
from palimpsest.engine.costs import (
    StepCost,
    decode_probe_blocks,
    prefill_probe_blocks,
    probe_decode,
    probe_prefill,
)
from palimpsest.engine.events import Deliver
from palimpsest.engine.limits import check_request, check_task
from palimpsest.engine.prefill import Take, prefill_steps
from palimpsest.engine.request_state import RequestState
from palimpsest.engine.requests import Request
from palimpsest.engine.scoring import Scores, score_steps
from palimpsest.engine.slack import FACTOR, Slack
from palimpsest.engine.tasks import T, Task, Tasks, TaskSteps
from palimpsest.errors import PalimpsestError, Reason, ResourceExhausted, Unavailable
from palimpsest.lm.blocks import BLOCK, prefix_keys
from palimpsest.lm.faults import is_fatal
from palimpsest.lm.protocols import Model

log = logging.getLogger(__name__)

ModelT = TypeVar("ModelT", bound=Model)


class Engine(Generic[ModelT]):
    """Continuous batching over one model.

    Parameters
    ----------
    model
        Used by the engine's thread alone from now on.
    max_running
        Most sequences in one step. A single request with more runs alone.
    queue_limit
        Requests that may be queued; as many background requests beside them.
    background_factor
        How much longer than by itself a step may take for background requests; see :mod:`palimpsest.engine.slack`.
    """

    def __init__(
        self,
        model: ModelT,
        max_running: int = 32,
        queue_limit: int = 128,
        background_factor: float = FACTOR,
    ) -> None:
        self.model, self.max_running, self.queue_limit = model, max_running, queue_limit
        self.counters, self.costs = Counters(), StepCost()
        # Reentrant: completing a future on the engine's thread may wake the engine.
        self._lock = threading.Condition(threading.RLock())
        self._inbox: deque[RequestState] = deque()
        self._background: deque[RequestState] = deque()
        self._budget = CacheBudget(model.limits.cache_blocks)
        slack = Slack(background_factor)
        self._batch = Batch(model, max_running, self._budget, self.counters, self.costs, slack)
        self._tasks = Tasks(self._budget, self._wake)
        self._awake = False
        self._stopping = False
        self._steps_known = False
        self._failure: PalimpsestError | None = None
        self._thread = threading.Thread(target=self._main, name="engine", daemon=True)
        self._thread.start()

    # Called from any thread.

    def check(self, request: Request) -> int:
        """Reject a request that can never run; see :func:`check_request`."""
        return check_request(self.model, request)

    def submit(self, request: Request, deliver: Deliver) -> RequestState:
        """Queue a request; its events go to ``deliver`` on the engine's thread.

        Raises
        ------
        InvalidArgument, ResourceExhausted
            As :meth:`check`; also ENGINE_QUEUE_FULL, with a time to wait.
        Unavailable
            The engine has failed or is stopping.
        """
        blocks = self.check(request)
        keys = prefix_keys(request.ids[:-1], request.salt) if self.model.pool is not None else []
        state = RequestState(request, deliver, blocks, keys, self._wake)
        if request.prefix is not None:
            request.prefix.attach(self._wake)
        inbox = self._background if request.background else self._inbox
        if request.background:
            self._measure_steps()
        with self._lock:
            self._refuse_if_ended_or_full(len(inbox))
            inbox.append(state)
            self._wake()
        return state

    def submit_score(self, ids: Sequence[int], top: int = 0, skip: int = 0) -> "Future[Scores]":
        """Queue a text whose tokens are to be scored, each given those before it.

        Cancel the future to stop; that takes effect before the next 64 tokens.

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
        return self._submit_task(score_steps(self.model, ids, top, skip), -(-len(ids) // BLOCK))

    def submit_prefill(self, ids: Sequence[int], chunk_tokens: int, take: Take) -> "Future[None]":
        """Queue a text whose keys and values are wanted; ``take`` receives them as they are computed.

        The text is read between the steps of running requests, 256 tokens at once or 64 beside streams. Cancel
        the future to stop; that takes effect before the next step. An error of ``take`` fails the future.

        Parameters
        ----------
        ids
            The text's tokens.
        chunk_tokens
            Tokens of a chunk; the last one may be shorter.
        take
            Called on the engine's thread as ``take(start, keys, values)`` for every chunk in order, with tensors
            [layers, kv_heads, tokens, head_dim] in the model's dtype that it may keep. It must return quickly: where
            there is work to do, it hands the chunk to another thread and returns a future. At most two chunks are
            outstanding: the engine waits for the older future first.

        Raises
        ------
        InvalidArgument, ResourceExhausted, Unavailable
            As :meth:`submit`.

        Examples
        --------
        ``engine.submit_prefill(ids, 512, lambda *chunk: pool.submit(encode, *chunk)).result()``
        """
        if chunk_tokens < 1:
            raise ValueError(f"chunk_tokens is {chunk_tokens}; a chunk has at least one token")

        def rows() -> int:
            return self._batch.prompt_rows

        def observe(start: int, tokens: int, seconds: float) -> None:
            self.counters.prefill_tokens += tokens
            self.costs.saw_prefill(start, tokens, seconds)

        self.check(Request(ids, max_tokens=0))
        steps = prefill_steps(self.model, ids, chunk_tokens, take, rows, observe)
        return self._submit_task(steps, -(-len(ids) // BLOCK))

    def prefill_curve(self, tokens: int = 0) -> list[tuple[int, float]]:
        """How long prefilling a text's first n tokens takes here when nothing else runs.

        It is learnt from what the engine prefills. The first call, if nothing was prefilled before, waits for a
        measurement of a fraction of a second.

        Parameters
        ----------
        tokens
            The text's; 0: as many as the model takes, which is a million where it has no limit.

        Returns
        -------
        list of tuple
            Tokens and seconds, ascending, up to ``tokens``.

        Raises
        ------
        ResourceExhausted, Unavailable
            As :meth:`submit`.
        """
        if not self.costs.prefill_known:
            self._submit_task(
                probe_prefill(self.model, self.costs), prefill_probe_blocks(self.model)
            ).result()
        longest = self.model.limits.context_length
        return self.costs.prefill_curve(min(tokens or longest, longest))

    def held(self, ids: Sequence[int], external: bytes, salt: bytes = b"") -> int:
        """Count the leading tokens that a request would find in the prefix index now.

        ``external`` is the salt of its external prefix, ``salt`` the request's own.

        The blocks may be evicted before the request is admitted, so mark any chunk you skip as "recompute"; if it is
        still cached that costs nothing.
        """
        pool = self.model.pool
        return (
            0
            if pool is None
            else BLOCK * pool.count(prefix_keys(ids, salt), prefix_keys(ids, salt + external))
        )

    @property
    def running(self) -> int:
        """Sequences in the batch, and requests whose prompt is being read; none of the background."""
        return self._batch.running()

    @property
    def background(self) -> tuple[int, int, int]:
        """Background sequences and prompts that run, sequences paused in the last step, and requests queued."""
        admitted = self._batch.running(background=True)
        paused = min(admitted, self._batch.paused)
        return admitted - paused, paused, len(self._background)

    @property
    def waiting(self) -> int:
        """Requests and tasks that are queued; none of the background."""
        return len(self._inbox) + len(self._tasks)

    @property
    def failed(self) -> bool:
        """Whether the engine has ended, by a failure or by :meth:`close`."""
        return self._failure is not None

    @property
    def idle(self) -> bool:
        """Whether there is no request and no task."""
        return not (self._batch.states or self._inbox or self._background or len(self._tasks))

    @property
    def cache_bytes_used(self) -> int:
        """Bytes of cache that are reserved for running requests."""
        return self._budget.used * self.model.limits.block_bytes

    def close(self, timeout: float = 30.0) -> None:
        """Stop after the present step; open requests get SHUTTING_DOWN."""
        with self._lock:
            self._stopping = True
            self._wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def submit_task(self, steps: TaskSteps[T], blocks: int, longest: int) -> "Future[T]":
        """Queue work that the engine's thread does between steps, a little at a time.

        Parameters
        ----------
        steps
            The work; it may use the model, and gives control back often. Cancel the future to stop it.
        blocks
            Cache memory it needs at most.
        longest
            Tokens of its longest sequence.

        Raises
        ------
        InvalidArgument, ResourceExhausted, Unavailable
            As :meth:`submit`.
        """
        check_task(self.model, blocks, longest)
        return self._submit_task(steps, blocks)

    @property
    def prompt_rows(self) -> int:
        """Tokens that one step of a task should have now: fewer beside running streams."""
        return self._batch.prompt_rows

    def _measure_steps(self) -> None:
        """Measure what steps cost before the first background request: what fits beside others depends on it."""
        with self._lock:
            known, self._steps_known = self._steps_known or self.costs.decode_probed, True
        blocks = decode_probe_blocks(self.model)
        if not known and blocks <= self.model.limits.cache_blocks:
            self._submit_task(probe_decode(self.model, self.costs), blocks)

    def _submit_task(self, steps: TaskSteps[T], blocks: int) -> "Future[T]":
        task: Task[Any] = Task(steps, blocks)
        with self._lock:
            self._refuse_if_ended_or_full(len(self._tasks))
            self._tasks.add(task)
            self._wake()
        return task.future

    def _wake(self) -> None:
        """Wake the engine: something was queued, or something it waited for is done."""
        with self._lock:
            self._awake = True
            self._lock.notify_all()

    def _refuse_if_ended_or_full(self, waiting: int) -> None:
        if self._failure is not None:
            raise self._failure
        if self._stopping:
            raise Unavailable(Reason.SHUTTING_DOWN, "The engine is stopping; send the request again.")
        if waiting >= self.queue_limit:
            raise ResourceExhausted(
                Reason.ENGINE_QUEUE_FULL,
                f"{waiting} requests are waiting already; send this one again in a moment.",
                retry_after=1.0,
            )

    # The engine's thread.

    def _main(self) -> None:
        self.model.prepare()
        try:
            while True:
                with self._lock:
                    while not self._awake and not self._stopping:
                        self._lock.wait()
                    if self._stopping:
                        break
                    self._awake = False
                self._step()
            self._end(Unavailable(Reason.SHUTTING_DOWN, "The server is stopping; send the request again."))
        except BaseException as error:
            log.exception("the engine failed")
            self._end(Unavailable(Reason.ENGINE_FAILED, "The engine failed; send the request again."))
            if is_fatal(error):
                os._exit(70)
        finally:
            self.model.close()

    def _step(self) -> None:
        """Do one round of work. If there is none, the engine sleeps until it is woken."""
        moved = self._batch.drop_ended()
        moved |= self._admit()
        moved |= self._tasks.advance()
        moved |= self._batch.step()
        if moved:
            self._awake = True  # never set to False here: another thread may have woken us meanwhile

    def _admit(self) -> bool:
        """Admit interactive requests; background requests only where neither those nor tasks wait for memory."""
        if not self._inbox and not self._background and not self._tasks.wanted:
            return False
        with self._lock:
            before = len(self._inbox) + len(self._background)
            for inbox in (self._inbox, self._background):
                for state in [state for state in inbox if state.over]:
                    inbox.remove(state)
                    state.end()
            while self._inbox and self._batch.admit(self._inbox[0]):
                self._inbox.popleft()
            if wanted := self._tasks.wanted:
                self._batch.make_room(wanted)
            while (
                not self._inbox and not wanted and self._background and self._batch.admit(self._background[0])
            ):
                self._background.popleft()
            return len(self._inbox) + len(self._background) != before

    def _end(self, error: PalimpsestError) -> None:
        with self._lock:
            self._failure = error
            states = [*self._batch.states, *self._inbox, *self._background]
            self._inbox.clear()
            self._background.clear()
        for state in states:
            state.end(error)
        self._tasks.end(error)
