"""The requests an engine works on: their prompts, their sequences, and the step that moves all of them on."""

import logging
from collections import abc
from dataclasses import dataclass

from palimpsest.engine.budget import CacheBudget
from palimpsest.engine.costs import StepCost, timed
from palimpsest.engine.events import Started
from palimpsest.engine.prefix_assembler import PrefixAssembler
from palimpsest.engine.prompts import prompt_chunks, report_prefix
from palimpsest.engine.request_state import RequestState
from palimpsest.engine.requests import Sequence, Step
from palimpsest.engine.sequence import SequenceState
from palimpsest.engine.slack import Slack
from palimpsest.engine.structured import StructuredSequence
from palimpsest.errors import Internal, PalimpsestError, Reason, ResourceExhausted
from palimpsest.lm.blocks import BLOCK
from palimpsest.lm.faults import is_fatal
from palimpsest.lm.forward import Cache, Output, SequenceInput
from palimpsest.lm.paged_cache import PagedCache
from palimpsest.lm.protocols import Model

log = logging.getLogger(__name__)

Fed = tuple[RequestState, Sequence, abc.Sequence[SequenceInput]]
"""A sequence that takes part in a step, and what it reads; nothing where it waits for a mask."""


@dataclass
class Counters:
    """What the engine has done since it started."""

    prefill_tokens: int = 0
    prefill_tokens_shared: int = 0
    generated_tokens: int = 0
    decode_steps: int = 0
    background_interrupted: int = 0


class Batch:
    """Admitted requests; used on the engine's thread alone.

    Parameters
    ----------
    model
        Runs the steps.
    max_running
        Most sequences at once. A single request with more runs alone.
    budget
        Cache memory, shared with the tasks.
    counters, costs
        Kept up to date.
    slack
        How much background requests take part.

    Attributes
    ----------
    prompts, active
        Requests whose prompt is being read, and those that generate; each in the order of admission.
    paused
        Background sequences that had no room in the last step.
    """

    def __init__(
        self,
        model: Model,
        max_running: int,
        budget: CacheBudget,
        counters: Counters,
        costs: StepCost,
        slack: Slack,
    ) -> None:
        self.model, self.max_running, self.counters, self._costs = model, max_running, counters, costs
        self._budget, self._slack = budget, slack
        self.prompts: list[RequestState] = []
        self.active: list[RequestState] = []
        self.paused = 0

    @property
    def states(self) -> list[RequestState]:
        """Every admitted request."""
        return [*self.active, *self.prompts]

    def running(self, background: bool = False) -> int:
        """Sequences of one kind of requests, and requests whose prompt is being read."""
        active, prompts = _of(list(self.active), background), _of(list(self.prompts), background)
        return sum(len(state.sequences) * state.width for state in active) + len(prompts)

    @property
    def prompt_rows(self) -> int:
        """Prompt tokens that one step may have."""
        limits = self.model.limits
        return limits.prefill_chunk_beside if _of(self.active, False) else limits.prefill_chunk

    def admit(self, state: RequestState) -> bool:
        """Admit a request if there are slots and memory for it; background requests make room for others."""
        slots = sum(admitted.slots for admitted in _of(self.states, state.background))
        if slots and slots + state.slots > self.max_running:
            return False
        if not state.background:
            self.make_room(state.blocks)
        if not self._budget.take(state.blocks):
            return False
        state.cache = self.model.new_cache()
        if state.request.prefix is not None:
            state.assembler = PrefixAssembler(state.request, state.keys, state.cache)
        self.prompts.append(state)
        return True

    def make_room(self, blocks: int) -> None:
        """End background requests, the latest first, if that frees so much memory; no more of them than necessary."""
        background = _of(self.states, True)
        if self._budget.free + sum(state.blocks for state in background) < blocks:
            return
        for state in reversed(background):
            if self._budget.free >= blocks:
                return
            self._release(state)
            self.counters.background_interrupted += 1
            state.end(
                ResourceExhausted(
                    Reason.BACKGROUND_INTERRUPTED,
                    "An interactive request needs the memory of this background request; send it again.",
                    retry_after=1.0,
                )
            )

    def drop_ended(self) -> bool:
        """Remove requests that were cancelled or have failed; returns whether there were any."""
        over = [state for state in self.states if state.over]
        for state in over:
            self._release(state)
            state.end()
        return bool(over)

    def step(self) -> bool:
        """Run the next tokens of every sequence and a chunk of the prompts; returns whether there was work.

        Background requests take part as far as :mod:`palimpsest.engine.slack` has room for them.
        """
        # One chunk of one external prefix per step: copying takes time from running streams.
        took = any(state.assembler.take() for state in self.prompts if state.assembler is not None)
        fed = [(state, s, s.feed()) for state in _of(self.active, False) for s in state.sequences]
        prompts = prompt_chunks(_of(self.prompts, False), self.prompt_rows)
        if any(state.background for state in self.states):
            self._add_background(fed, prompts)
        rows = [row for _, _, rows in fed for row in rows] + [row for _, row in prompts]
        if not rows:
            return self._resume(fed) or took
        outputs, seconds = self._forward(rows, prompts=len(prompts))
        step = Step(sum(row.count for row in rows), seconds, self._costs)
        self.counters.decode_steps += bool(fed)
        given = iter(outputs)
        taken = [(state, sequence, [next(given) for _ in rows]) for state, sequence, rows in fed]
        for state, sequence, own_outputs in taken:
            self._take(state, sequence, own_outputs, step)
        for (state, row), output in zip(prompts, given, strict=True):
            self._after_prompt(state, row, output, step)
        self._deliver()
        return True

    def _add_background(self, fed: list[Fed], prompts: list[tuple[RequestState, SequenceInput]]) -> None:
        """Add background requests to a step, the oldest first, as far as there is room beside the others."""
        own = [row for _, _, rows in fed for row in rows] + [row for _, row in prompts]
        looked_at = sum(row.count * row.cache.length for row in own)
        count = max(sum(row.count for row in own), len(fed))  # one that waits for its mask soon reads again
        room = self._slack.room(self._costs.any_step() if count else None, count, looked_at)
        left = [(state, s) for state in _of(self.active, True) for s in state.sequences]
        self.paused = len(left)
        for state, sequence in left:
            rows = sequence.feed()
            count = sum(row.count for row in rows)
            if rows and room.take(count, rows[0].cache.length) < count:
                break
            fed.append((state, sequence, rows))
            self.paused -= 1
        if not prompts or room.guaranteed:
            prompts += prompt_chunks(_of(self.prompts, True), self.model.limits.prefill_chunk_beside, room)
        self._slack.used(room)
        if room.guaranteed and not prompts:
            self._costs.forget(room.rows)

    def _resume(self, fed: list[Fed]) -> bool:
        """Go on with sequences that read nothing because they waited; returns whether one did."""
        before, step = self.counters.generated_tokens, Step(0, 0.0, self._costs)
        for state, sequence, _ in fed:
            self._take(state, sequence, [], step)
        if moved := self.counters.generated_tokens > before:
            self._deliver()
        return moved

    def _take(self, state: RequestState, sequence: Sequence, outputs: list[Output], step: Step) -> None:
        """Advance one sequence; an error of its own ends its request and no other."""
        before = sequence.generated
        try:
            state.events += sequence.take(outputs, step)
        except PalimpsestError as error:
            state.fail(error)
        except Exception as error:
            if is_fatal(error):
                raise
            log.exception("a sequence failed")
            state.fail(Internal(Reason.REQUEST_FAILED, "The request failed; this is a bug in the server."))
        self.counters.generated_tokens += sequence.generated - before

    def _forward(self, rows: list[SequenceInput], prompts: int) -> tuple[list[Output], float]:
        """Run the step and learn what it cost, if it read one prompt alone or only generated."""
        starts = [row.cache.length for row in rows]
        outputs, seconds = timed(self.model, rows)
        if prompts == len(rows) == 1:
            self._costs.saw_prefill(starts[0], rows[0].count, seconds)
        elif not prompts:
            looked_at = sum(row.count * start for row, start in zip(rows, starts, strict=True))
            self._costs.saw_decode(sum(row.count for row in rows), looked_at, seconds)
        return outputs, seconds

    def _release(self, state: RequestState) -> None:
        for sequence in state.sequences:
            sequence.release()
        state.sequences.clear()
        if state.cache is not None:
            state.cache.release()
            state.cache = None
        if state.assembler is not None:
            state.assembler.release()
        for group in (self.active, self.prompts):
            if state in group:
                group.remove(state)
        self._budget.give(state.blocks)

    def _after_prompt(self, state: RequestState, row: SequenceInput, output: Output, step: Step) -> None:
        self.counters.prefill_tokens += row.count
        cache, request = state.cache, state.request
        assert cache is not None
        if isinstance(cache, PagedCache):
            cache.file(state.keys[: cache.length // BLOCK])
        if state.assembler is not None:
            state.assembler.passed()
            report_prefix(state)
        if row.logits == "none":
            return
        self.counters.prefill_tokens_shared += state.shared
        state.events.append(Started(len(request.ids), state.shared))
        self.prompts.remove(state)
        self.active.append(state)
        for index in range(request.n):
            own = cache if index == request.n - 1 else cache.branch()
            sequence = self._start(state, index, own)
            state.sequences.append(sequence)
            self._take(state, sequence, [output], step)
        state.cache = None

    def _start(self, state: RequestState, index: int, cache: Cache) -> Sequence:
        request = state.request
        if request.strategy is not None:
            return request.strategy.start(request, index, cache, self.model)
        if request.grammar is not None:
            return StructuredSequence(request, index, cache, self.model, state.wake)
        return SequenceState(request, index, cache, self.model)

    def _deliver(self) -> None:
        for state in [state for state in self.active if not state.over]:
            for sequence in [s for s in state.sequences if s.done]:
                sequence.release()
                state.sequences.remove(sequence)
            events, state.events = state.events, []
            if not state.sequences:
                self._release(state)
            if events:
                state.deliver(events)


def _of(states: list[RequestState], background: bool) -> list[RequestState]:
    """The background requests of some, or the others."""
    return [state for state in states if state.background is background]
