"""The requests an engine works on: their prompts, their sequences, and the step that moves all of them on."""

import logging
from dataclasses import dataclass

from palimpsest.engine.budget import CacheBudget
from palimpsest.engine.costs import StepCost, timed
from palimpsest.engine.events import PrefixReady, Started
from palimpsest.engine.prefix_assembler import PrefixAssembler
from palimpsest.engine.request_state import RequestState
from palimpsest.engine.requests import Sequence, Step
from palimpsest.engine.sequence import SequenceState
from palimpsest.engine.structured import StructuredSequence
from palimpsest.errors import Internal, PalimpsestError, Reason
from palimpsest.lm.blocks import BLOCK
from palimpsest.lm.faults import is_fatal
from palimpsest.lm.forward import Cache, Output, SequenceInput
from palimpsest.lm.paged_cache import PagedCache
from palimpsest.lm.protocols import Model

log = logging.getLogger(__name__)


@dataclass
class Counters:
    """What the engine has done since it started."""

    prefill_tokens: int = 0
    prefill_tokens_shared: int = 0
    generated_tokens: int = 0
    decode_steps: int = 0


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
    """

    def __init__(
        self,
        model: Model,
        max_running: int,
        budget: CacheBudget,
        counters: Counters,
        costs: StepCost,
    ) -> None:
        self.model, self.max_running, self.counters, self._costs = model, max_running, counters, costs
        self._budget = budget
        self.prompts: list[RequestState] = []
        self.active: list[RequestState] = []

    @property
    def states(self) -> list[RequestState]:
        """Every admitted request."""
        return [*self.active, *self.prompts]

    @property
    def running(self) -> int:
        """Sequences, and requests whose prompt is being read."""
        return sum(len(state.sequences) * state.width for state in list(self.active)) + len(self.prompts)

    @property
    def prompt_rows(self) -> int:
        """Prompt tokens that one step may have."""
        limits = self.model.limits
        return limits.prefill_chunk_beside if self.active else limits.prefill_chunk

    def admit(self, state: RequestState) -> bool:
        """Admit a request if there are slots and memory for it."""
        slots = sum(admitted.slots for admitted in self.states)
        if slots and slots + state.slots > self.max_running:
            return False
        if not self._budget.take(state.blocks):
            return False
        state.cache = self.model.new_cache()
        if state.request.prefix is not None:
            state.assembler = PrefixAssembler(state.request, state.keys, state.cache)
        self.prompts.append(state)
        return True

    def drop_ended(self) -> bool:
        """Remove requests that were cancelled or have failed; returns whether there were any."""
        over = [state for state in self.states if state.over]
        for state in over:
            self._release(state)
            state.end()
        return bool(over)

    def step(self) -> bool:
        """Run the next tokens of every sequence and a chunk of the prompts; returns whether there was work."""
        sequences = [s for state in self.active for s in state.sequences]
        took = self._take_chunk()
        prompts = self._prompt_chunks()
        fed = [s.feed() for s in sequences]
        rows = [row for own in fed for row in own] + [row for _, row in prompts]
        if not rows:
            return self._resume() or took
        outputs, seconds = self._forward(rows, prompts=len(prompts))
        step = Step(sum(row.count for row in rows), seconds, self._costs)
        self.counters.decode_steps += bool(sequences)
        given = iter(outputs)
        by_sequence = {id(s): [next(given) for _ in own] for s, own in zip(sequences, fed, strict=True)}
        for state in self.active:
            for sequence in state.sequences:
                self._take(state, sequence, by_sequence[id(sequence)], step)
        for (state, row), output in zip(prompts, given, strict=True):
            self._after_prompt(state, row, output, step)
        self._deliver()
        return True

    def _resume(self) -> bool:
        """Go on with sequences that read nothing because they waited; returns whether one did."""
        before, step = self.counters.generated_tokens, Step(0, 0.0, self._costs)
        for state in self.active:
            for sequence in state.sequences:
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

    def _take_chunk(self) -> bool:
        """Take one chunk of one external prefix: only one per step, because copying takes time from running streams."""
        return any(state.assembler.take() for state in self.prompts if state.assembler is not None)

    def _prompt_chunks(self) -> list[tuple[RequestState, SequenceInput]]:
        """Choose the prompt chunks of this step.

        Prompts are read in order of arrival. One that begins like another prompt of this step waits: its blocks will be
        in the prefix index at the next.
        """
        chosen: list[tuple[RequestState, SequenceInput]] = []
        left = self.prompt_rows
        upcoming: set[bytes] = set()
        for state in self.prompts:
            cache = state.cache
            assert cache is not None
            ids, stop = state.request.ids, len(state.request.ids)
            if state.assembler is not None:
                stop, state.shared = state.assembler.advance(), state.assembler.shared
                self._report_prefix(state)
                if stop <= cache.length:
                    continue
            elif isinstance(cache, PagedCache):
                state.shared += cache.adopt(state.keys)
            if isinstance(cache, PagedCache):
                following = state.keys[cache.length // BLOCK : cache.length // BLOCK + 1]
                if upcoming.intersection(following):
                    continue
            count = min(left, stop - cache.length)
            if count <= 0:
                break
            if state.assembler is not None:
                state.assembler.begin()
            last = cache.length + count == len(ids)
            chunk = ids[cache.length : cache.length + count]
            strategy = state.request.strategy
            queries = last and strategy is not None and strategy.needs == "retrieval_queries"
            row = SequenceInput(
                cache,
                chunk,
                logits="last" if last else "none",
                retrieval_queries="last" if queries else "none",
            )
            chosen.append((state, row))
            upcoming.update(state.keys[cache.length // BLOCK : (cache.length + count) // BLOCK])
            left -= count
        return chosen

    def _after_prompt(self, state: RequestState, row: SequenceInput, output: Output, step: Step) -> None:
        self.counters.prefill_tokens += row.count
        cache, request = state.cache, state.request
        assert cache is not None
        if isinstance(cache, PagedCache):
            cache.file(state.keys[: cache.length // BLOCK])
        if state.assembler is not None:
            state.assembler.passed()
            self._report_prefix(state)
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

    def _report_prefix(self, state: RequestState) -> None:
        """Report once that a request's whole external prefix is in the cache."""
        assembler = state.assembler
        if assembler is not None and assembler.done and not state.prefix_reported:
            state.prefix_reported = True
            assembler.prefix.close()
            state.deliver([PrefixReady(tuple(assembler.origins), assembler.exact_tokens)])

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
