"""A draft while it grows: its tokens, its text, and where it ends."""

import copy
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from palimpsest.decoding.drafts.settings import StopAt
from palimpsest.decoding.sources import Source
from palimpsest.engine.events import Finish
from palimpsest.lm.detokenizer import Detokenizer, StopMatcher

_CLOSING = r"\"'”’»)\]」』）】"

# Each pattern matches the text to keep; a lookahead requires what must follow. So a match does not depend on where the
# text is split into tokens: nothing matches before the required context is there.
_ENDS = {
    StopAt.WORD: re.compile(r"\s*\S+(?=\s)"),
    StopAt.SENTENCE: re.compile(
        rf"\s*\S.*?(?:[.!?…]+[{_CLOSING}]*(?=\s)|[。！？]+[{_CLOSING}]*(?=[^。！？{_CLOSING}]))", re.DOTALL
    ),
    StopAt.LINE: re.compile(r"\s*\S[^\n]*(?=\n)"),
}


@dataclass(frozen=True, eq=False)
class Proposal:
    """A draft that was not generated: its tokens, and a function that returns the sources of its text.

    ``sources`` is called once the draft has ended; without sources, the draft is dropped.
    """

    ids: tuple[int, ...]
    sources: Callable[[str], tuple[Source, ...]]


class DraftText:
    """The text of a draft, token by token, up to its end.

    Parameters
    ----------
    tokenizer
        The model's.
    eos
        Ids that end a text.
    stops, stop_at
        Other ends of the text.
    healed
        Bytes of the prompt that the first tokens repeat; they are not part of the draft's text.
    """

    def __init__(
        self, tokenizer: Any, eos: frozenset[int], stops: Sequence[str], stop_at: StopAt, healed: bytes = b""
    ) -> None:
        self._eos, self._end = eos, _ENDS.get(stop_at)
        self._detokenizer = Detokenizer(tokenizer)
        self._stops = StopMatcher(stops)
        self._healed = healed.decode(errors="ignore")
        self.text = ""
        self.reason: Finish | None = None
        self.stop = ""

    def copy(self) -> "DraftText":
        """A copy that can grow on its own."""
        twin = copy.copy(self)
        twin._detokenizer, twin._stops = self._detokenizer.copy(), self._stops.copy()
        return twin

    def push(self, token: int, last: bool) -> None:
        """Add a token, the ``last`` one or not; ``text`` grows by what has become certain."""
        ends = token in self._eos
        new = "" if ends else self._detokenizer.push(token)
        self._add(new)
        if self.reason is None and (ends or last):
            self._add(self._detokenizer.finish(), final=True)
            if self.reason is None:
                self.reason = Finish.EOS if ends else Finish.LENGTH

    def _add(self, new: str, final: bool = False) -> None:
        if self._healed and new:
            if self._healed[0] == " " and not self.text and not new[0].isspace():
                self._healed = self._healed[1:]  # some tokenizers omit the space before the first word
            cut = min(len(self._healed), len(new))
            self._healed, new = self._healed[cut:], new[cut:]
        out, stop = self._stops.push(new)
        if final and stop is None:
            out += self._stops.finish()
        self.text += out
        found = self._end.match(self.text) if self._end is not None and out else None
        if found is not None:
            # A stop string further on is beyond the end; text held back for one is dropped.
            self.text, self.reason = found[0], Finish.STOP
        elif stop is not None:
            self.stop, self.reason = stop, Finish.STOP


class Hypothesis:
    """A draft so far. It is immutable; :meth:`grow` returns a continuation.

    Attributes
    ----------
    ids
        Its tokens.
    text
        Their text.
    score
        Sum of the search's gains.
    logprobs
        The model's log-probability of each token, where the draft was scored on its own; else empty.
    known
        How many of its tokens have their n-gram in the store.
    slot
        Where it is shown; -1 if it is not shown yet.
    source
        The proposal that it comes from, if it was not generated.
    """

    __slots__ = ("ids", "known", "logprobs", "score", "slot", "source", "text")

    def __init__(self, text: DraftText) -> None:
        self.text = text
        self.ids: tuple[int, ...] = ()
        self.logprobs: tuple[float, ...] = ()
        self.score = 0.0
        self.known = 0
        self.slot = -1
        self.source: Proposal | None = None

    def grow(
        self, token: int, gain: float, *, last: bool, logprob: float | None = None, known: bool = False
    ) -> "Hypothesis":
        """Return this draft with one more token, which adds ``gain`` to the score."""
        child = Hypothesis(self.text.copy())
        child.text.push(token, last)
        child.ids = (*self.ids, token)
        child.score = self.score + gain
        child.logprobs = self.logprobs if logprob is None else (*self.logprobs, logprob)
        child.known = self.known + known
        child.slot = self.slot
        return child

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.text.reason is not None

    @property
    def quality(self) -> float:
        """Mean log-probability of its tokens, or mean score where that is unknown."""
        total = sum(self.logprobs) if len(self.logprobs) == len(self.ids) else self.score
        return total / max(1, len(self.ids))


def without_repeats(hypotheses: Sequence[Hypothesis]) -> list[Hypothesis]:
    """The first hypothesis with each text."""
    seen: set[str] = set()
    kept = []
    for hypothesis in hypotheses:
        if hypothesis.text.text not in seen:
            seen.add(hypothesis.text.text)
            kept.append(hypothesis)
    return kept


def overlap(sequences: Sequence[Sequence[int]]) -> float:
    """Mean over pairs: fraction of positions with the same token, up to the shorter one's end; 0 without pairs."""
    shares = []
    for n, a in enumerate(sequences):
        for b in sequences[:n]:
            size = min(len(a), len(b))
            if size:
                shares.append(sum(x == y for x, y in zip(a, b, strict=False)) / size)
    return sum(shares) / len(shares) if shares else 0.0


def shared_length(a: Sequence[object], b: Sequence[object]) -> int:
    """Length of the common prefix of two sequences."""
    count = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        count += 1
    return count
