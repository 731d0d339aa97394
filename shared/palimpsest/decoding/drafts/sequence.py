"""The drafts of one request, as the engine runs them: search, verification, ranking."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from palimpsest.decoding.drafts.branching import Beams, DiverseBeams, Samples
from palimpsest.decoding.drafts.events import Draft, DraftsEnd
from palimpsest.decoding.drafts.hypotheses import DraftText, Hypothesis, Proposal, overlap, without_repeats
from palimpsest.decoding.drafts.search import DraftTask, Search
from palimpsest.decoding.drafts.settings import DraftSettings, DraftStrategy, Streaming
from palimpsest.decoding.drafts.slots import Slots
from palimpsest.decoding.drafts.superposing import Superposing
from palimpsest.decoding.drafts.verifying import Verifier
from palimpsest.decoding.sources import Source
from palimpsest.engine.events import Event
from palimpsest.engine.requests import Request, Step
from palimpsest.lm.forward import Cache, Output, SequenceInput
from palimpsest.lm.model import LanguageModel
from palimpsest.lm.sampling import Sampling

if TYPE_CHECKING:
    from palimpsest.ngrams import NgramStore

NUCLEUS = Sampling(temperature=0.6, top_p=0.9)
"""How samples are drawn where the request sets no temperature."""

_SEARCHES: dict[DraftStrategy, type[Search]] = {
    DraftStrategy.SUPERPOSED: Superposing,
    DraftStrategy.SUPERPOSED_VERIFIED: Superposing,
    DraftStrategy.BEAM: Beams,
    DraftStrategy.DIVERSE_BEAM: DiverseBeams,
    DraftStrategy.NUCLEUS: Samples,
}


@dataclass(eq=False)
class DraftPlan:
    """How several drafts of a prompt are made.

    Parameters
    ----------
    settings
        How the drafts are made.
    store
        n-grams over the model's tokenizer, for superposed drafts.
    healed
        Bytes removed from the prompt's end. Every draft begins with them; they are not part of its text.
    allowed
        int64 [n]: ids of the tokens that begin with these bytes, ascending; None if nothing was removed.
    extra
        Drafts that were not generated, such as quotations; they are verified with the others.
    """

    settings: DraftSettings
    store: "NgramStore | None" = None
    healed: bytes = b""
    allowed: np.ndarray | None = None
    extra: Sequence[Proposal] = ()


class Drafts:
    """The drafts of one request, as one sequence of the batch: searched for, perhaps verified, then ranked.

    Parameters
    ----------
    plan
        How the drafts are made.
    request
        The engine's request.
    cache
        Holds the prompt.
    model
        Runs the passes.

    Attributes
    ----------
    done
        Whether all drafts are finished.
    generated
        Tokens of the drafts that were kept; 0 before the end.
    """

    def __init__(self, plan: DraftPlan, request: Request, cache: Cache, model: LanguageModel) -> None:
        self.done = False
        self.generated = 0
        settings, eos_ids = (
            plan.settings,
            frozenset[int]() if request.ignore_eos else frozenset(model.eos_ids),
        )
        if settings.strategy is DraftStrategy.NUCLEUS and not request.sampling.temperature:
            request = replace(request, sampling=replace(NUCLEUS, seed=request.sampling.seed))
        self._plan, self._settings = plan, settings
        text = DraftText(model.tokenizer, eos_ids, request.stop, settings.stop_at, plan.healed)
        self._task = DraftTask(request, settings, Hypothesis(text), plan.allowed, plan.store)
        self._search = _SEARCHES[settings.strategy](self._task, cache, model)
        self._verifier: Verifier | None = None
        self._slots = Slots(settings.k)
        self._prompt_output: Output | None = None
        self._counts: dict[str, float] = dict.fromkeys(DraftsEnd.__dataclass_fields__, 0)

    def feed(self) -> Sequence[SequenceInput]:
        """Rows of the search, or of the verification."""
        began = time.perf_counter()
        rows = self._search.feed() if self._verifier is None else self._verifier.feed()
        self._counts["positions"] += sum(row.count for row in rows)
        self._counts["search_seconds"] += time.perf_counter() - began
        return rows

    def take(self, outputs: Sequence[Output], step: Step) -> list[Event]:
        """Continue the search or the verification; returns the changes of the drafts."""
        began = time.perf_counter()
        events, end = self._take(outputs, step)
        self._counts["search_seconds"] += time.perf_counter() - began
        return [*events, DraftsEnd(**self._counts)] if end else events  # type: ignore[arg-type]

    def _take(self, outputs: Sequence[Output], step: Step) -> tuple[list[Event], bool]:
        search, counts = self._search, self._counts
        if self._prompt_output is None:
            self._prompt_output = outputs[0]
            search.begin(outputs[0])
        else:
            counts["steps"] += 1
            if self._verifier is not None:
                counts["verify_seconds"] += step.seconds
                self._verifier.take(outputs)
            else:
                counts["draft_seconds"] += step.seconds
                search.take(outputs)
        if search.live and self._verifier is None and not self._last_is_exact(search.live[0]):
            return self._shown(), False
        if self._settings.verifies and self._verifier is None:
            assert isinstance(search, Superposing)
            drafts = [
                *search.ended,
                *search.live,
                *(self._task.proposed(one) for one in self._plan.extra if one.ids),
            ]
            self._verifier = Verifier(search.exact_cache(), self._prompt_output.logits[0], drafts)
        if self._verifier is not None and not self._verifier.done:
            return self._shown(), False
        return self._finish(), True

    def _last_is_exact(self, draft: Hypothesis) -> bool:
        """Whether verification yields the draft's last token: the pass that reads the others predicts it as well."""
        verified = self._settings.strategy is DraftStrategy.SUPERPOSED_VERIFIED
        return verified and self._task.is_last(draft)

    def release(self) -> None:
        """Give the memory back."""
        if self._verifier is not None:
            self._verifier.release()
        else:
            self._search.release()

    def _shown(self) -> list[Event]:
        search, streaming = self._search, self._settings.streaming
        drafts = sorted([*search.live, *search.ended], key=lambda h: -h.quality)
        if streaming is Streaming.FINAL or not drafts:
            return []
        if streaming is Streaming.REWRITES or search.independent:
            for draft in drafts[self._settings.k :]:
                draft.slot = -1  # another draft takes its slot, and keeps it if this one comes back
            return list(self._slots.show(drafts[: self._settings.k], clear=streaming is Streaming.REWRITES))
        return (
            list(self._slots.show_common(drafts)) if self._verifier is None and not self._plan.extra else []
        )

    def _finish(self) -> list[Event]:
        """Rank the drafts and keep the best."""
        drafts, repeats = list(self._search.ended), self._search.repeats
        made = len(drafts) + len(self._search.live) + repeats
        if self._verifier is not None:
            drafts = []
            for draft in self._verifier.hypotheses:
                draft.logprobs = self._verifier.logprobs(draft)
                if not draft.done:
                    token, logprob = self._verifier.best(draft)
                    draft = draft.grow(token, logprob, last=True, logprob=logprob)
                drafts.append(draft)
            self._counts["verified_positions"] = self._verifier.positions
        # Asked once: a document deleted between two calls would leave a quotation without a source.
        sources = {id(h): h.source.sources(h.text.text) for h in drafts if h.source is not None}
        drafts = [h for h in drafts if h.source is None or sources[id(h)]]
        # Of two drafts with the same text, keep the one that has sources.
        drafts.sort(key=lambda h: (h.source is None, -h.quality))
        kept = sorted(without_repeats(drafts), key=lambda h: -h.quality)
        best = kept[: self._settings.k]
        quoted = [h for h in kept if h.source is not None]
        if quoted and len(best) > 1 and all(h.source is None for h in best):
            best[-1] = quoted[0]  # a request with corpora gets at least one quotation
        streaming = self._settings.streaming
        changes = self._slots.show(best, clear=streaming is Streaming.REWRITES)
        events: list[Event] = list(changes) if streaming is not Streaming.FINAL else []
        events += [_finished(draft, rank, sources.get(id(draft), ())) for rank, draft in enumerate(best)]
        counts = self._counts
        counts.update(
            made=made, dropped=len(drafts) - len(kept) + repeats, overlap=overlap([h.ids for h in best])
        )
        if isinstance(self._search, Superposing):
            counts["lookup_seconds"] = self._search.lookup_seconds
        self.generated = sum(len(h.ids) for h in best)
        self.done = True
        return events


def _finished(draft: Hypothesis, rank: int, sources: tuple[Source, ...]) -> Draft:
    assert draft.text.reason is not None
    exact = len(draft.logprobs) == len(draft.ids)
    return Draft(
        slot=draft.slot,
        rank=rank,
        text=draft.text.text,
        ids=draft.ids,
        reason=draft.text.reason,
        stop=draft.text.stop,
        logprobs=draft.logprobs if exact else None,
        score=draft.score / len(draft.ids),
        ngram_share=draft.known / max(1, len(draft.ids) - 1),
        sources=sources,
    )
