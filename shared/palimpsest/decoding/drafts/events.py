"""Events of a request for drafts: changes of a draft, finished drafts, and the end with its counts."""

from dataclasses import dataclass

from palimpsest.decoding.sources import Source
from palimpsest.engine.events import Ended, Event, Finish


@dataclass(frozen=True)
class DraftDelta(Event):
    """An edit of draft ``slot``: keep its first ``keep_tokens`` tokens and ``keep_chars`` characters, then append.

    Anything beyond what is kept is replaced by ``text`` and ``ids``.
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
        The draft's slot, as in its deltas.
    rank
        0 for the best: by mean log-probability of a token where that is known, else by score.
    text, ids
        The whole draft. Its last token may be the one that ended it and contribute no text.
    reason, stop
        Why it ended, and the stop string.
    logprobs
        The model's log-probability of each token, in nats; None where the draft was not scored on its own.
    score
        The search's own score, a mean over tokens. Not a log-probability where drafts were superposed.
    ngram_share
        Fraction of the tokens after the first whose n-gram is in the store.
    sources
        The documents that a quoted draft comes from.
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
    """The end of a request for drafts, with its counts and times.

    Parameters
    ----------
    made, dropped
        Drafts that were generated, and duplicates among them.
    steps, positions
        Forward passes after the prompt's, including verification, and token positions in them.
    verified_positions
        Positions in the passes that verified drafts.
    overlap
        Mean over pairs of drafts of the fraction of positions with the same token, up to the shorter one's end.
    draft_seconds, verify_seconds, search_seconds, lookup_seconds
        In passes that drafted; in passes that verified; outside them; of the latter, in the n-gram store.
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
