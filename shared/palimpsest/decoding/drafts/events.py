"""What a request for several drafts tells: how each goes on, what each came to, and what it took."""

from dataclasses import dataclass

from palimpsest.decoding.sources import Source
from palimpsest.engine.events import Ended, Event, Finish


@dataclass(frozen=True)
class DraftDelta(Event):
    """Draft ``slot`` is now its first ``keep_tokens`` tokens and ``keep_chars`` characters, and what is given here.

    Where less is kept than there was, the rest is rewritten.
    """

    slot: int
    keep_tokens: int
    keep_chars: int
    text: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Draft(Event):
    """A finished draft.

    Parameters
    ----------
    slot
        As in its deltas.
    rank
        0 for the best: by mean log-probability of a token where that is known for all, else by score.
    text, ids
        The whole of it. The tokens end with the one that ended it, of which no text need be left.
    reason, stop
        Why it ended, and the stop string.
    logprobs
        The model's own log-probability of each token, in nats; None where the draft was never read by itself.
    score
        What the search went by: mean over its tokens, and no log-probability of anything where tokens were superposed.
    ngram_share
        Share of its tokens after the first whose n-gram the store has.
    sources
        Where a draft that was not generated comes from.
    """

    slot: int
    rank: int
    text: str
    ids: tuple[int, ...]
    reason: Finish
    stop: str
    logprobs: tuple[float, ...] | None
    score: float
    ngram_share: float
    sources: tuple[Source, ...] = ()

    @property
    def logprob(self) -> float | None:
        """Sum of the log-probabilities."""
        return None if self.logprobs is None else sum(self.logprobs)


@dataclass(frozen=True)
class DraftsEnd(Ended):
    """The end of a request for drafts.

    Parameters
    ----------
    made, dropped
        Drafts that were generated, and of those, duplicates.
    steps, positions
        Passes of the model after the prompt's, and token positions in them; those of verification included.
    verified_positions
        Positions of the last passes, which read the drafts exactly.
    overlap
        Mean over pairs of drafts of the share of places with the same token, up to the shorter one's end.
    draft_seconds, verify_seconds, search_seconds, lookup_seconds
        In passes that drafted and that verified, beside them, and of that in the n-gram store.
    """

    made: int = 0
    dropped: int = 0
    steps: int = 0
    positions: int = 0
    verified_positions: int = 0
    overlap: float = 0.0
    draft_seconds: float = 0.0
    verify_seconds: float = 0.0
    search_seconds: float = 0.0
    lookup_seconds: float = 0.0
