"""Superposed Decoding: k drafts from one sequence that reads a mixture of their last tokens (Shen et al., 2024).

::

    first tokens   the k most probable ones after the prompt                              P_i = log p(x_i)
    read           one vector, sum_i gamma_i * embedding(x_i), gamma = softmax(P)         eq. 3, 4
    mix            log p(v) + log n-gram probability of v after draft i, for 3k tokens v  eq. 5, 6
    keep           the k best of all (draft, token) pairs; drafts may branch and die
    reset          every n tokens: all continue from the best draft, read exactly         section 5.3

The shared distribution cannot tell which of its tokens follows which draft; only the n-grams can. The first step uses
no n-grams, as in the paper (the published code does use them there). Two rules differ from the paper, and can be set as
published: the first scores are sharpened, because a broad first mixture spoils what follows; and tokens without n-gram
support get a small floor probability instead of zero, because a store of a few million tokens lacks most continuations.
"""

import time
from collections.abc import Sequence

import numpy as np
import torch

from palimpsest.decoding.drafts.hypotheses import Hypothesis
from palimpsest.decoding.drafts.mixing import best_children, mix, shared_candidates, shares
from palimpsest.decoding.drafts.search import DraftTask, Search, best_first
from palimpsest.lm.forward import Cache, Output, SequenceInput
from palimpsest.lm.model import LanguageModel
from palimpsest.lm.sampling import uniform

CONTEXT = 5
"""Tokens in the context of the longest n-gram."""


class Superposing(Search):
    """All drafts in one sequence, whose cache grows by one token a step, however many drafts there are.

    Attributes
    ----------
    lookup_seconds
        Time spent in the n-gram store.
    """

    def __init__(self, task: DraftTask, cache: Cache, model: LanguageModel) -> None:
        super().__init__(task, cache, model)
        self.lookup_seconds = 0.0
        self._start = cache.length
        self._exact = 0
        self._chosen: Hypothesis | None = None
        self._before = tuple(task.request.ids[-CONTEXT:])

    def begin(self, output: Output) -> None:
        """Start one draft from each of the most probable first tokens."""
        self._branch(self.task.root, self.task.first_logits(output.logits[0]), output.logits[0])

    def _branch(self, parent: Hypothesis, logits: torch.Tensor, plain: torch.Tensor) -> None:
        room = self.task.settings.made - len(self.ended)
        total = float(torch.logsumexp(plain, 0)) - float(torch.logsumexp(logits, 0))
        last, temperature = self.task.is_last(parent), self.task.settings.first_temperature
        self.live = self.sort(
            [
                parent.grow(token, (gain - total) / temperature, last=last)
                for token, gain in zip(*best_first(logits, room), strict=True)
            ]
        )

    def feed(self) -> list[SequenceInput]:
        """One superposed token; at a reset, the tokens of the best draft since the last reset."""
        every = self.task.settings.reset_every
        if every and len(self.live[0].ids) - self._exact >= every:
            self._chosen = self._pick()
            self.cache.crop(self._start + self._exact)
            return [SequenceInput(self.cache, self._chosen.ids[self._exact :])]
        gammas = shares(np.array([h.score for h in self.live]))  # (k,)
        tokens = self.model.embed([h.ids[-1] for h in self.live]).float()  # (k, d)
        weights = torch.from_numpy(gammas.astype(np.float32)).to(tokens.device)  # (k,)
        return [SequenceInput(self.cache, embeddings=(weights @ tokens)[None])]

    def take(self, outputs: Sequence[Output]) -> None:
        """Re-parent: the best continuations over all drafts become the drafts."""
        logits = outputs[0].logits[0]  # (vocabulary,)
        if self._chosen is not None:
            parent, self._chosen = self._chosen, None
            self._exact = len(parent.ids)
            self._branch(parent, logits, logits)
            return
        settings, live = self.task.settings, self.live
        ids, shared = shared_candidates(logits, settings.pool, settings.temperature)  # (c,), (c,)
        ngram = self._ngram(ids)  # (k, c)
        gains = mix(shared, ngram, settings.alpha, settings.penalty, settings.floor)  # (k, c) or (1, c)
        scores = np.array([h.score for h in live])  # (k,)
        children = []
        for draft, column in best_children(scores, gains, settings.made - len(self.ended)):
            gain = float(gains[draft if gains.shape[0] > 1 else 0, column])
            known = ngram is not None and bool(ngram[draft, column] > 0)
            parent = live[draft]
            children.append(parent.grow(int(ids[column]), gain, last=self.task.is_last(parent), known=known))
        self.live = self.sort(children)

    def exact_cache(self) -> Cache:
        """The prompt's cache, cropped to the prompt; call it once no draft is live."""
        self.cache.crop(self._start)
        return self.cache

    def _ngram(self, ids: np.ndarray) -> np.ndarray | None:
        """Probabilities of candidates [c] after each live draft, [k, c]."""
        store, settings = self.task.store, self.task.settings
        if store is None or settings.alpha == 0:
            return None
        began = time.perf_counter()
        found = store.probabilities(
            contexts(self._before, [h.ids for h in self.live]),
            ids.astype(np.int32),
            np.array(settings.order_weights),
        )
        self.lookup_seconds += time.perf_counter() - began
        return found

    def _pick(self) -> Hypothesis:
        """The draft that all continue from: the best, or one drawn by its share if there is a temperature."""
        sampling = self.task.request.sampling
        scores = np.array([h.score for h in self.live])
        if not sampling.temperature:
            return self.live[int(scores.argmax())]
        reached = shares(scores).cumsum()
        draw = uniform(sampling.seed, 0, len(self.live[0].ids)) * reached[-1]
        return self.live[min(int(np.searchsorted(reached, draw, side="right")), len(self.live) - 1)]


def contexts(before: Sequence[int], drafts: Sequence[Sequence[int]]) -> np.ndarray:
    """The last five tokens of each draft, including the prompt's: int32 [k, 5], -1 where there is none."""
    found = np.full((len(drafts), CONTEXT), -1, dtype=np.int32)
    for row, ids in zip(found, drafts, strict=True):
        tail = (*before, *ids)[-CONTEXT:]
        row[CONTEXT - len(tail) :] = tail
    return found
