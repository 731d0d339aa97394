"""Drafts with one sequence each, in one batch: beams, diverse beams and samples."""

from collections.abc import Sequence

import torch

from palimpsest.decoding.drafts.hypotheses import Hypothesis
from palimpsest.decoding.drafts.search import DraftTask, Search, best_first, rows_best
from palimpsest.lm.forward import Cache, Output, SequenceInput
from palimpsest.lm.model import LanguageModel
from palimpsest.lm.sampling import choose


class Branching(Search):
    """Drafts that share the prompt's cache and branch from there."""

    def __init__(self, task: DraftTask, cache: Cache, model: LanguageModel) -> None:
        super().__init__(task, cache, model)
        # The first draft takes the prompt's own cache: nothing else needs it, and a branch would hold a block more.
        self._caches = [cache]

    def feed(self) -> list[SequenceInput]:
        """Each live draft's last token."""
        return [SequenceInput(cache, [h.ids[-1]]) for cache, h in zip(self._caches, self.live, strict=True)]

    def _adopt(self, children: Sequence[tuple[int, Hypothesis]]) -> None:
        """Make children the live drafts; each comes with its parent's number."""
        held, going = self._caches, []
        keep = self.sort([child for _, child in children])
        self._caches = []
        for parent, child in children:
            if any(child is one for one in keep):
                going.append(child)
                self._caches.append(held[parent].branch())
        for cache in held:
            cache.release()
        self.live = going

    def release(self) -> None:
        """Give all memory back."""
        for cache in self._caches:
            cache.release()
        self._caches = []

    def _firsts(self, logits: torch.Tensor) -> list[Hypothesis]:
        """One draft for each of the k most probable first tokens."""
        root, last = self.task.root, self.task.is_last(self.task.root)
        rest = float(torch.logsumexp(self.task.first_logits(logits), 0)) - float(torch.logsumexp(logits, 0))
        ids, values = best_first(self.task.first_logits(logits), self.task.settings.k)
        return [
            root.grow(token, value + rest, last=last, logprob=value + rest)
            for token, value in zip(ids, values, strict=True)
        ]


class Beams(Branching):
    """Beam search: the most probable continuations over all beams."""

    def begin(self, output: Output) -> None:
        """The most probable first tokens."""
        self._adopt([(0, child) for child in self._firsts(output.logits[0])])

    def take(self, outputs: Sequence[Output]) -> None:
        """Keep the best continuations, one fewer for each beam that has ended."""
        room = self.task.settings.k - len(self.ended)
        found = []
        for beam, (ids, values) in enumerate(rows_best(torch.cat([o.logits for o in outputs]), room)):
            for token, value in zip(ids, values, strict=True):
                found.append((-(self.live[beam].score + value), beam, token, value))
        self._adopt(
            [(beam, self._grown(beam, token, value)) for _, beam, token, value in sorted(found)[:room]]
        )

    def _grown(self, beam: int, token: int, value: float) -> Hypothesis:
        parent = self.live[beam]
        return parent.grow(token, value, last=self.task.is_last(parent), logprob=value)


class DiverseBeams(Branching):
    """Diverse beam search with one beam a group (Vijayakumar et al., 2018): earlier beams' tokens are penalised."""

    independent = True

    def begin(self, output: Output) -> None:
        """The most probable first tokens, one for each beam."""
        self._adopt([(0, child) for child in self._firsts(output.logits[0])])

    def take(self, outputs: Sequence[Output]) -> None:
        """Choose each beam's best token, after penalising the tokens of the beams before it."""
        settings, taken, children = self.task.settings, dict[int, int](), []
        # Only tokens of other beams are penalised, so as many candidates as there are beams suffice.
        tops = rows_best(torch.cat([o.logits for o in outputs]), len(self.live))
        for beam, (ids, values) in enumerate(tops):
            costs = [v - settings.diversity * taken.get(t, 0) for t, v in zip(ids, values, strict=True)]
            best = max(range(len(ids)), key=lambda n: (costs[n], -n))
            parent, token = self.live[beam], ids[best]
            taken[token] = taken.get(token, 0) + 1
            child = parent.grow(token, values[best], last=self.task.is_last(parent), logprob=values[best])
            children.append((beam, child))
        self._adopt(children)


class Samples(Branching):
    """Independent samples, each with its own random stream."""

    independent = True

    def begin(self, output: Output) -> None:
        """Draw the first token of each sample."""
        logits, k = output.logits[0], self.task.settings.k
        root, last = self.task.root, self.task.is_last(self.task.root)
        masked = self.task.first_logits(logits)
        rest = float(torch.logsumexp(masked, 0)) - float(torch.logsumexp(logits, 0))
        children = []
        for number in range(k):
            choice = choose(masked, self.task.request.sampling, number, 0)
            logprob = choice.logprob + rest
            child = root.grow(choice.id, logprob, last=last, logprob=logprob)
            child.slot = number
            children.append((0, child))
        self._adopt(children)

    def take(self, outputs: Sequence[Output]) -> None:
        """Draw the next token of each sample."""
        children = []
        for draft, output in enumerate(outputs):
            parent = self.live[draft]
            choice = choose(output.logits[0], self.task.request.sampling, parent.slot, len(parent.ids))
            last = self.task.is_last(parent)
            children.append(
                (draft, parent.grow(choice.id, choice.logprob, last=last, logprob=choice.logprob))
            )
        self._adopt(children)
