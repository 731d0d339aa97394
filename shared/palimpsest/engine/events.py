"""Events that the engine delivers. A strategy adds its own by subclassing :class:`Event`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from palimpsest.engine.external_prefix import ChunkOrigin
from palimpsest.errors import PalimpsestError
from palimpsest.lm.sampling import Choice


class Finish(Enum):
    """Why a sequence ended."""

    LENGTH = "length"
    EOS = "eos"
    STOP = "stop"


class Event:
    """Base class of everything a request reports."""


class Ended(Event):
    """Base class of the last event of a sequence."""


@dataclass(frozen=True)
class PrefixReady(Event):
    """The whole external prefix of a request is in the cache; comes before :class:`Started`.

    ``origins`` has one entry per chunk of the prefix. The keys and values of the first ``exact_tokens`` tokens are
    exactly those that computing them gives.
    """

    origins: tuple[ChunkOrigin, ...]
    exact_tokens: int


@dataclass(frozen=True)
class Started(Event):
    """The prompt has been read; ``cached_tokens`` of it were in the prefix cache."""

    prompt_tokens: int
    cached_tokens: int


@dataclass(frozen=True)
class Delta(Event):
    """New text of sequence ``index``, with all tokens since its last delta."""

    index: int
    text: str
    token_ids: tuple[int, ...]
    choices: tuple[Choice, ...] = ()


@dataclass(frozen=True)
class Finished(Ended):
    """The end of sequence ``index``; ``text`` is the whole of it."""

    index: int
    reason: Finish
    stop: str
    generated_tokens: int
    text: str
    logprob: float


@dataclass(frozen=True)
class Failed(Event):
    """The request ended with an error; no event follows."""

    error: PalimpsestError


Deliver = Callable[[Sequence[Event]], None]
"""Takes the events of one step. Called on the engine's thread: it must return quickly and must not raise."""
