"""Drafts of one prompt without a server around them: read once, then pass by pass, timed; alone or beside others."""

import time
from dataclasses import dataclass, field

from palimpsest.decoding.drafts import Draft, DraftRequest, DraftsEnd, DraftSettings, DraftStrategy
from palimpsest.engine import Event, Request
from palimpsest.engine.costs import StepCost
from palimpsest.engine.sequence import SequenceState, Step
from palimpsest.lm import Cache, LanguageModel, Output, Sampling, SequenceInput
from palimpsest.ngrams import NgramStore
from tests.benchmarks.superposed.text import TOKENS

NUCLEUS = Sampling(temperature=0.6, top_p=0.9, seed=11)


@dataclass
class Run:
    """What one generation came to, and its time after the prompt: wall and processor."""

    seconds: float
    cpu: float
    events: list[Event] = field(default_factory=list)

    @property
    def drafts(self) -> list[Draft]:
        """Best first."""
        return [e for e in self.events if isinstance(e, Draft)]

    @property
    def end(self) -> DraftsEnd:
        """Its counts."""
        return next(e for e in self.events if isinstance(e, DraftsEnd))


class Prefilled:
    """A prompt that has been read.

    Parameters
    ----------
    model
        Used by this thread alone.
    ids
        The prompt.
    """

    def __init__(self, model: LanguageModel, ids: list[int]) -> None:
        self.model, self.ids, self.cache = model, ids, model.new_cache()
        start, cpu = time.perf_counter(), time.thread_time()
        self.output: Output = model.forward([SequenceInput(self.cache, ids)])[0]
        self.seconds, self.cpu = time.perf_counter() - start, time.thread_time() - cpu

    def run(self, request: Request, others: list[Cache] | None = None) -> Run:
        """Generate; each pass also has a token of each of some other sequences, which are left as they were."""
        model, beside = self.model, others or []
        start, cpu = time.perf_counter(), time.thread_time()
        cache = self.cache.branch()
        sequence = (
            SequenceState(request, 0, cache, model)
            if request.strategy is None
            else request.strategy.start(request, 0, cache, model)
        )
        cost = StepCost()  # for quoting, which no request here asks for
        events = list(sequence.take([self.output], Step(0, 0.0, cost)))
        while not sequence.done:
            rows = list(sequence.feed())
            began = time.perf_counter()
            outputs = model.forward([*rows, *(SequenceInput(other, [7]) for other in beside)])
            events += sequence.take(outputs[: len(rows)], Step(len(rows), time.perf_counter() - began, cost))
            for other in beside:
                other.crop(other.length - 1)
        sequence.release()
        return Run(time.perf_counter() - start, time.thread_time() - cpu, events)

    def drafts(
        self, settings: DraftSettings, store: NgramStore | None, others: list[Cache] | None = None
    ) -> Run:
        """Drafts."""
        return self.run(self.request(settings, store), others)

    def request(self, settings: DraftSettings, store: NgramStore | None) -> Request:
        """A request for drafts of this prompt; they do not end early."""
        return Request(
            self.ids,
            NUCLEUS if settings.strategy is DraftStrategy.NUCLEUS else Sampling(),
            max_tokens=TOKENS,
            ignore_eos=True,
            strategy=DraftRequest(settings, store),
        )

    def samples(self, count: int) -> Run:
        """So many samples, one after the other."""
        runs = [
            self.run(
                Request(
                    self.ids, Sampling(0.6, top_p=0.9, seed=n), max_tokens=TOKENS, ignore_eos=True, logprobs=0
                )
            )
            for n in range(count)
        ]
        return Run(
            sum(r.seconds for r in runs), sum(r.cpu for r in runs), [e for r in runs for e in r.events]
        )

    def release(self) -> None:
        """Give the memory back."""
        self.cache.release()
