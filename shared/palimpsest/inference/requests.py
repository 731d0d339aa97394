"""What goes into the engine and what comes out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from palimpsest.errors import PalimpsestError
from palimpsest.inference.drafts import Draft, DraftDelta, DraftsEnd
from palimpsest.inference.past import How, Past
from palimpsest.inference.quotes import QuotingStats, Span, SpanRevoked
from palimpsest.inference.sampling import Choice, Sampling

if TYPE_CHECKING:
    from palimpsest.inference.sequence import Drafting


class Finish(Enum):
    """Why a sequence ended."""

    LENGTH = "length"
    EOS = "eos"
    STOP = "stop"


@dataclass(frozen=True)
class Request:
    """A prompt and what to make of it.

    Parameters
    ----------
    ids
        The prompt's tokens, those of the past included.
    sampling
        How tokens are chosen.
    n
        Independent sequences; the prompt is prefilled once.
    max_tokens
        Most tokens per sequence.
    stop
        Generation ends before the first of these in the text.
    logprobs
        None for none; else how many alternatives to report for each token.
    ignore_eos
        Go on past the end-of-sequence token.
    past
        Where the keys and values of leading tokens come from, if not from computing them.
    drafting
        How to read several tokens in one step, and choose among them; None for one token after another.
    """

    ids: Sequence[int]
    sampling: Sampling = field(default_factory=Sampling)
    n: int = 1
    max_tokens: int = 256
    stop: Sequence[str] = ()
    logprobs: int | None = None
    ignore_eos: bool = False
    past: Past | None = None
    drafting: "Drafting | None" = None


@dataclass(frozen=True)
class PastReady:
    """The whole past of a request is in the cache; comes before :class:`Started`.

    ``how`` has one entry a piece; the first ``exact_tokens`` tokens are what computing them gives.
    """

    how: tuple[How, ...]
    exact_tokens: int


@dataclass(frozen=True)
class Started:
    """The prompt is being worked on; ``cached_tokens`` of it were in the prefix cache."""

    prompt_tokens: int
    cached_tokens: int


@dataclass(frozen=True)
class Delta:
    """New text of sequence ``index``, with all tokens since its last delta."""

    index: int
    text: str
    token_ids: tuple[int, ...]
    choices: tuple[Choice, ...] = ()


@dataclass(frozen=True)
class Finished:
    """The end of sequence ``index``; ``text`` is the whole of it.

    ``quoting`` says how the quoting went, where that was asked for.
    """

    index: int
    reason: Finish
    stop: str
    generated_tokens: int
    text: str
    logprob: float
    quoting: QuotingStats | None = None


@dataclass(frozen=True)
class Failed:
    """The request ended with an error; no event follows."""

    error: PalimpsestError


Event = PastReady | Started | Delta | Span | SpanRevoked | DraftDelta | Draft | DraftsEnd | Finished | Failed
Deliver = Callable[[Sequence[Event]], None]
"""Takes the events of one step; called on the engine's thread, so it must be quick and must not raise."""
