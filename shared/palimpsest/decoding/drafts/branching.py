"""Drafts with a sequence each, read in one batch: beams, diverse beams, and samples."""

from collections.abc import Sequence

import torch

from palimpsest.decoding.drafts.hypotheses import Hypothesis
from palimpsest.decoding.drafts.search import DraftTask, Search, best_first, rows_best
from palimpsest.lm.forward import Cache, Output, SequenceInput
from palimpsest.lm.model import LanguageModel
from palimpsest.lm.sampling import choose


class Branching(Search):
    """Drafts that share the prompt's memory and have their own from there on."""

    def __init__(self, task: DraftTask, cache: Cache, model: LanguageModel) -> None:
        super().__init__(task, cache, model)
        # The prompt's own is the first draft's: nobody needs it afterwards, and it would hold a block more.
        self._caches = [cache]

    def feed(self) -> list[SequenceInput]:
        """Each live draft's last token."""
        return [SequenceInput(cache, [h.ids[-1]]) for cache, h in zip(self._caches, self.live, strict=True)]

    def _adopt(self, children: Sequence[tuple[int, Hypothesis]]) -> None:
        """Children of live drafts, given by their numbers, become the live ones."""
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
        """The most probable first tokens, all different."""
        root, last = self.task.root, self.task.is_last(self.task.root)
        rest = float(torch.logsumexp(self.task.first_logits(logits), 0)) - float(torch.logsumexp(logits, 0))
        ids, values = best_first(self.task.first_logits(logits), self.task.settings.k)
        return [
            root.grow(token, value + rest, last=last, logprob=value + rest)
            for token, value in zip(ids, values, strict=True)
        ]


class Beams(Branching):
    """Beam search: of all continuations of all beams, the most probable ones."""

    def begin(self, output: Output) -> None:
        """The most probable first tokens."""
        self._adopt([(0, child) for child in self._firsts(output.logits[0])])

    def take(self, outputs: Sequence[Output]) -> None:
        """The best k less those that have ended."""
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
    """Diverse beam search with one beam a group (Vijayakumar et al., 2018): the earlier beams' tokens are made dear."""

    independent = True

    def begin(self, output: Output) -> None:
        """Different first tokens, the most probable ones."""
        self._adopt([(0, child) for child in self._firsts(output.logits[0])])

    def take(self, outputs: Sequence[Output]) -> None:
        """Each beam's best token, less what the beams before it took at this place."""
        settings, taken, children = self.task.settings, dict[int, int](), []
        # Only tokens that another beam has taken lose anything, so these suffice.
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
    """Independent samples, each with a random stream of its own."""

    independent = True

    def begin(self, output: Output) -> None:
        """One sample of the first token for each."""
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
        """One sample of the next token for each."""
        children = []
        for draft, output in enumerate(outputs):
            parent = self.live[draft]
            choice = choose(output.logits[0], self.task.request.sampling, parent.slot, len(parent.ids))
            last = self.task.is_last(parent)
            children.append(
                (draft, parent.grow(choice.id, choice.logprob, last=last, logprob=choice.logprob))
            )
        self._adopt(children)
