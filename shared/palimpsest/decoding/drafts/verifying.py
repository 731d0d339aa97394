"""Exact scores of drafts: one pass over the trie of their tokens gives every draft's own log-probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from palimpsest.decoding.drafts.hypotheses import Hypothesis, shared_length
from palimpsest.lm.forward import Cache, Output, SequenceInput

CHUNK = 64
"""Tokens of one pass: running streams wait no longer than for a chunk of a prompt."""


@dataclass(eq=False)
class _Branch:
    """A path of the trie with its own cache.

    The cache holds ``held`` of the path's tokens. The next pass adds those up to ``read``, which another branch reads,
    and those of ``rows``; then ``held`` and ``read`` are equal again.
    """

    path: tuple[int, ...]
    cache: Cache
    held: int = 0
    read: int = 0
    rows: SequenceInput | None = None


class Verifier:
    """Log-probabilities of drafts, each given the prompt and its own tokens before.

    The last token of a draft that has ended is scored but not read. A draft that has not ended is read to its end,
    which predicts the next token: :meth:`best`. Common prefixes are read once. Every branch has its own cache, so the
    results are those of reading each draft alone.

    Parameters
    ----------
    cache
        The prompt's; the verifier owns it from now on.
    logits
        float32 [vocabulary]: after the prompt; they score the first tokens.
    hypotheses
        Each with at least one token.
    """

    def __init__(self, cache: Cache, logits: torch.Tensor, hypotheses: Sequence[Hypothesis]) -> None:
        self._start, self._spare = cache.length, cache
        self.hypotheses = list(hypotheses)
        total = float(torch.logsumexp(logits, 0))
        self._known: dict[tuple[int, ...], float] = {}
        for h in hypotheses:
            self._known[h.ids[:1]] = float(logits[h.ids[0]]) - total
        read = {h.ids[:-1] if h.done else h.ids for h in hypotheses}
        paths = sorted(path for path in read if path)
        self._best: dict[tuple[int, ...], tuple[int, float] | None] = {
            h.ids: None for h in hypotheses if not h.done
        }
        # A path that is a prefix of the next one is read with it.
        self._paths = [p for n, p in enumerate(paths) if n + 1 == len(paths) or paths[n + 1][: len(p)] != p]
        self._wanted = {h.ids[:n] for h in hypotheses for n in range(2, len(h.ids) + 1)}
        self._next: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        for prefix in self._wanted:
            self._next.setdefault(prefix[:-1], []).append(prefix)
        self._branches: list[_Branch] = []
        self.positions = 0

    @property
    def done(self) -> bool:
        """Whether everything has been read."""
        return not self._paths and all(b.read == len(b.path) for b in self._branches)

    def feed(self) -> list[SequenceInput]:
        """The next chunk of the trie: whole paths while they fit, or part of one that does not."""
        reading = [b for b in self._branches if b.read < len(b.path)]  # a single long one, if any
        for branch in reading:
            branch.rows = SequenceInput(
                branch.cache, branch.path[branch.read : branch.read + CHUNK], logits="all"
            )
        used = sum(b.rows.count for b in reading if b.rows is not None)
        while (self._paths and not reading) or (self._paths and used and self._fits(used)):
            branch = self._branch(self._paths.pop(0))
            assert branch.rows is not None
            reading.append(branch)
            used += branch.rows.count
        self.positions += used
        return [b.rows for b in reading if b.rows is not None]

    def _fits(self, used: int) -> bool:
        """Whether the next path fits into the chunk after ``used`` tokens."""
        return used + len(self._paths[0]) - self._closest(self._paths[0])[1] <= CHUNK

    def take(self, outputs: Sequence[Output]) -> None:
        """Record the log-probabilities of the tokens that follow those read."""
        reading = [b for b in self._branches if b.rows is not None]
        for branch, output in zip(reading, outputs, strict=True):
            totals = torch.logsumexp(output.logits, dim=-1)
            for row in range(output.logits.shape[0]):
                prefix = branch.path[: branch.read + row + 1]
                for longer in self._next.get(prefix, ()):
                    self._known[longer] = float(output.logits[row, longer[-1]]) - float(totals[row])
                if prefix in self._best:
                    token = int(np.argmax(output.logits[row].cpu().numpy()))  # the lowest id on ties
                    self._best[prefix] = (token, float(output.logits[row, token]) - float(totals[row]))
            branch.read += output.logits.shape[0]
            branch.held, branch.rows = branch.read, None

    def logprobs(self, hypothesis: Hypothesis) -> tuple[float, ...]:
        """Log-probability of each of a draft's tokens, in nats; call it once :attr:`done`."""
        return tuple(self._known[hypothesis.ids[:n]] for n in range(1, len(hypothesis.ids) + 1))

    def best(self, hypothesis: Hypothesis) -> tuple[int, float]:
        """The most probable token after a draft that has not ended, and its log-probability; once :attr:`done`."""
        found = self._best[hypothesis.ids]
        assert found is not None
        return found

    def release(self) -> None:
        """Give the memory back."""
        for branch in self._branches:
            branch.cache.release()
        if not self._branches:
            self._spare.release()
        self._branches = []

    def _closest(self, path: tuple[int, ...]) -> tuple[_Branch | None, int]:
        """The branch with the longest common prefix with a path, and its length."""
        best: tuple[_Branch | None, int] = (None, 0)
        for branch in self._branches:
            length = shared_length(branch.path, path)
            if best[0] is None or length > best[1]:
                best = (branch, length)
        return best

    def _branch(self, path: tuple[int, ...]) -> _Branch:
        """A branch for a path; it continues from the common prefix that another branch holds or reads in this pass."""
        source, common = self._closest(path)
        if source is None:
            branch = _Branch(path, self._spare)
        else:
            twin, held = source.cache.branch(), min(common, source.held)
            twin.crop(self._start + held)
            branch = _Branch(path, twin, held, common)
        ids = path[branch.read : branch.read + CHUNK]
        if source is not None and common > branch.held:
            branch.rows = SequenceInput(
                branch.cache, ids, logits="all", after=source.rows, shared=common - branch.held
            )
        else:
            branch.rows = SequenceInput(branch.cache, ids, logits="all")
        self._branches.append(branch)
        return branch
