"""What goes into the engine: requests, and the two protocols that decide how a request generates.

A :class:`Strategy` makes the sequences of a request; each :class:`Sequence` says what a step reads and takes what came
of it. The engine knows nothing else of either, so a new way to generate needs no change here.
"""

from collections import abc
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from palimpsest.engine.events import Event
from palimpsest.engine.external_prefix import ExternalPrefix
from palimpsest.lm.forward import Cache, Output, SequenceInput
from palimpsest.lm.sampling import Sampling

if TYPE_CHECKING:
    from palimpsest.engine.costs import StepCost
    from palimpsest.lm.constraints.grammars import Grammar


@dataclass(frozen=True)
class Step:
    """The forward pass that an output comes from.

    Parameters
    ----------
    rows
        Tokens of all sequences in it.
    seconds
        How long it took.
    cost
        What steps cost on this engine, learnt from those so far.
    """

    rows: int
    seconds: float
    cost: "StepCost"


class Sequence(Protocol):
    """One sequence of a request, past its prompt.

    Attributes
    ----------
    done
        Whether it has ended.
    generated
        Tokens generated so far.
    """

    done: bool
    generated: int

    def feed(self) -> abc.Sequence[SequenceInput]:
        """Return what the next step reads.

        A sequence may read more than it keeps, if it crops its cache afterwards; it never reads more tokens than it may
        still generate, as that is all the memory it was promised.
        """
        ...

    def take(self, outputs: abc.Sequence[Output], step: Step) -> abc.Sequence[Event]:
        """Go on from the outputs of what :meth:`feed` gave; the first output is that of the prompt's last token.

        A PalimpsestError raised here ends the sequence's request and no other.
        """
        ...

    def release(self) -> None:
        """Give the memory back: the sequence has ended or its request was cancelled."""
        ...


class Strategy(Protocol):
    """How the sequences of a request generate.

    ``model`` is the engine's model; :meth:`check` refuses the kinds that the strategy cannot run.
    """

    @property
    def needs(self) -> Literal["logits", "retrieval_queries"]:
        """What the first choice, after the prompt, needs of its last token: logits, or retrieval queries as well."""
        ...

    @property
    def width(self) -> int:
        """Sequences whose memory and slots in the batch each of the request's may take at once."""
        ...

    def check(self, model: Any, request: "Request") -> None:
        """Check what can never work; called when the request is submitted, on the caller's thread.

        Raises
        ------
        InvalidArgument, FailedPrecondition
            The settings are out of range, or the model cannot run the strategy.
        """
        ...

    def start(self, request: "Request", index: int, cache: Cache, model: Any) -> Sequence:
        """Return sequence ``index`` of the request; ``cache`` holds the prompt and is the sequence's own."""
        ...


@dataclass(frozen=True)
class Request:
    """A prompt and what to make of it.

    Parameters
    ----------
    ids
        The prompt's tokens, those of the external prefix included.
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
    prefix
        Where the keys and values of leading tokens come from, if they are not computed.
    strategy
        How the sequences generate; None for one token after another.
    salt
        Cached prefixes are shared by requests with an equal salt, and by no others.
    min_tokens
        No end-of-sequence token and none of ``stop_ids`` before this many tokens.
    stop_ids
        Tokens that end a sequence, without text of theirs.
    bad_words
        Sequences of tokens: the last of each is never chosen after the others.
    grammar
        What the text must be; None for any.
    """

    ids: abc.Sequence[int]
    sampling: Sampling = field(default_factory=Sampling)
    n: int = 1
    max_tokens: int = 256
    stop: abc.Sequence[str] = ()
    logprobs: int | None = None
    ignore_eos: bool = False
    prefix: ExternalPrefix | None = None
    strategy: Strategy | None = None
    salt: bytes = b""
    min_tokens: int = 0
    stop_ids: frozenset[int] = frozenset()
    bad_words: tuple[tuple[int, ...], ...] = ()
    grammar: "Grammar | None" = None
