"""The requests an engine works on: their prompts, their sequences, and the step that moves all of them on."""

import logging
from dataclasses import dataclass

from palimpsest.engine.costs import StepCost, timed
from palimpsest.engine.events import PrefixReady, Started
from palimpsest.engine.limits import CacheBudget
from palimpsest.engine.prefix_assembler import PrefixAssembler
from palimpsest.engine.request_state import RequestState
from palimpsest.engine.requests import Sequence, Step
from palimpsest.engine.sequence import SequenceState
from palimpsest.errors import Internal, PalimpsestError, Reason
from palimpsest.lm.blocks import BLOCK, PagedCache
from palimpsest.lm.faults import is_fatal
from palimpsest.lm.forward import Output, SequenceInput
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
    """Admitted requests; all of it belongs to the engine's thread.

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
    def handles(self) -> list[RequestState]:
        """Every admitted request."""
        return [*self.active, *self.prompts]

    @property
    def running(self) -> int:
        """Sequences, and requests whose prompt is being read."""
        return sum(len(h.sequences) * h.width for h in list(self.active)) + len(self.prompts)

    @property
    def prompt_rows(self) -> int:
        """Prompt tokens that one step may have."""
        limits = self.model.limits
        return limits.prefill_chunk_beside if self.active else limits.prefill_chunk

    def admit(self, handle: RequestState) -> bool:
        """Give a request a place and its memory, if it can have them."""
        places = sum(h.places for h in self.handles)
        if places and places + handle.places > self.max_running:
            return False
        if not self._budget.take(handle.blocks):
            return False
        handle.cache = self.model.new_cache()
        if handle.request.prefix is not None:
            handle.assembler = PrefixAssembler(handle.request, handle.keys, handle.cache)
        self.prompts.append(handle)
        return True

    def drop_ended(self) -> bool:
        """Let go of what nobody waits for any more; returns whether there was any."""
        over = [h for h in self.handles if h.over]
        for handle in over:
            self._release(handle)
            handle.end()
        return bool(over)

    def step(self) -> bool:
        """What every sequence reads next and a piece of the prompts; returns whether there was anything to do."""
        sequences = [s for handle in self.active for s in handle.sequences]
        took = self._take_arrival()
        prompts = self._prompt_pieces()
        fed = [s.feed() for s in sequences]
        rows = [row for own in fed for row in own] + [row for _, row in prompts]
        if not rows:
            return took
        outputs, seconds = self._forward(rows, prompts=len(prompts))
        step = Step(sum(row.count for row in rows), seconds, self._costs)
        self.counters.decode_steps += bool(sequences)
        given = iter(outputs)
        by_sequence = {id(s): [next(given) for _ in own] for s, own in zip(sequences, fed, strict=True)}
        for handle in self.active:
            for sequence in handle.sequences:
                self._take(handle, sequence, by_sequence[id(sequence)], step)
        for (handle, row), output in zip(prompts, given, strict=True):
            self._after_prompt(handle, row, output, step)
        self._deliver()
        return True

    def _take(self, handle: RequestState, sequence: Sequence, outputs: list[Output], step: Step) -> None:
        """Let one sequence go on; an error of its own is the end of its request, and of no other."""
        before = sequence.generated
        try:
            handle.events += sequence.take(outputs, step)
        except PalimpsestError as error:
            handle.fail(error)
        except Exception as error:
            if is_fatal(error):
                raise
            log.exception("a sequence failed")
            handle.fail(Internal(Reason.REQUEST_FAILED, "The request failed; this is a bug in the server."))
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

    def _release(self, handle: RequestState) -> None:
        for sequence in handle.sequences:
            sequence.release()
        handle.sequences.clear()
        if handle.cache is not None:
            handle.cache.release()
            handle.cache = None
        if handle.assembler is not None:
            handle.assembler.release()
        for group in (self.active, self.prompts):
            if handle in group:
                group.remove(handle)
        self._budget.give(handle.blocks)

    def _take_arrival(self) -> bool:
        """Take in one piece of one past: copying it is work, and streams go on between two pieces."""
        return any(h.assembler.take() for h in self.prompts if h.assembler is not None)

    def _prompt_pieces(self) -> list[tuple[RequestState, SequenceInput]]:
        """The prompt pieces of this step.

        Prompts are read in order of arrival. One that starts like a prompt in this very step waits, as its
        blocks will be there in the next.
        """
        chosen: list[tuple[RequestState, SequenceInput]] = []
        left = self.prompt_rows
        coming: set[bytes] = set()
        for handle in self.prompts:
            cache = handle.cache
            assert cache is not None
            ids, stop = handle.request.ids, len(handle.request.ids)
            if handle.assembler is not None:
                stop, handle.shared = handle.assembler.advance(), handle.assembler.shared
                self._report_prefix(handle)
                if stop <= cache.length:
                    continue
            elif isinstance(cache, PagedCache):
                handle.shared += cache.adopt(handle.keys)
            if isinstance(cache, PagedCache):
                following = handle.keys[cache.length // BLOCK : cache.length // BLOCK + 1]
                if coming.intersection(following):
                    continue
            count = min(left, stop - cache.length)
            if count <= 0:
                break
            if handle.assembler is not None:
                handle.assembler.begin()
            last = cache.length + count == len(ids)
            piece = ids[cache.length : cache.length + count]
            strategy = handle.request.strategy
            queries = last and strategy is not None and strategy.needs == "retrieval_queries"
            row = SequenceInput(
                cache,
                piece,
                logits="last" if last else "none",
                retrieval_queries="last" if queries else "none",
            )
            chosen.append((handle, row))
            coming.update(handle.keys[cache.length // BLOCK : (cache.length + count) // BLOCK])
            left -= count
        return chosen

    def _after_prompt(self, handle: RequestState, row: SequenceInput, output: Output, step: Step) -> None:
        self.counters.prefill_tokens += row.count
        cache, request = handle.cache, handle.request
        assert cache is not None
        if isinstance(cache, PagedCache):
            cache.file(handle.keys[: cache.length // BLOCK])
        if handle.assembler is not None:
            handle.assembler.passed()
            self._report_prefix(handle)
        if row.logits == "none":
            return
        self.counters.prefill_tokens_shared += handle.shared
        handle.events.append(Started(len(request.ids), handle.shared))
        self.prompts.remove(handle)
        self.active.append(handle)
        start = SequenceState if request.strategy is None else request.strategy.start
        for index in range(request.n):
            own = cache if index == request.n - 1 else cache.branch()
            sequence = start(request, index, own, self.model)
            handle.sequences.append(sequence)
            self._take(handle, sequence, [output], step)
        handle.cache = None

    def _report_prefix(self, handle: RequestState) -> None:
        """Say that all of a request's past is there, once."""
        assembler = handle.assembler
        if assembler is not None and assembler.done and not handle.prefix_reported:
            handle.prefix_reported = True
            assembler.prefix.close()
            handle.deliver([PrefixReady(tuple(assembler.how), assembler.exact_tokens)])

    def _deliver(self) -> None:
        for handle in [h for h in self.active if not h.over]:
            for sequence in [s for s in handle.sequences if s.done]:
                sequence.release()
                handle.sequences.remove(sequence)
            events, handle.events = handle.events, []
            if not handle.sequences:
                self._release(handle)
            if events:
                handle.deliver(events)
