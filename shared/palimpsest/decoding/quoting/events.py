"""Events of a sequence that quotes: spans, their withdrawal, and the end with its statistics."""

from dataclasses import dataclass
from enum import Enum

from palimpsest.decoding.sources import Source
from palimpsest.engine.events import Event, Finished


class SpanKind(Enum):
    """How a span came about."""

    SPAN = "span"
    """Its tokens were proposed from the source and accepted."""
    TOKEN_MATCH = "token_match"
    """The model's own tokens, which the nearest neighbours have as well."""


@dataclass(frozen=True)
class Span(Event):
    """A range of generated text that is byte for byte in its sources; follows the text itself.

    A span with the ``id`` of an earlier one replaces it. Ranges are half-open and count from the start of the
    generated text; they hold whole characters.

    Parameters
    ----------
    index
        Which of the request's sequences.
    id
        Its number in the sequence, from 0.
    kind
        See :class:`SpanKind`.
    byte_start, byte_end, char_start, char_end, token_start, token_end
        In the output: UTF-8 bytes, code points, generated tokens.
    text
        The bytes.
    sha256
        Of the bytes, in hex: equal in the output and in every source.
    sources
        At least one source.
    lm_weight, ratio
        Where the span began: the model's weight in the mixture, and the distance ratio (1: the nearest neighbour does
        not stand out).
    proposals
        Tokens proposed and tokens accepted, for each proposal that makes up the span.
    weak
        Too short or too common to be cited as a quotation.
    """

    index: int
    id: int
    kind: SpanKind
    byte_start: int
    byte_end: int
    char_start: int
    char_end: int
    token_start: int
    token_end: int
    text: bytes
    sha256: str
    sources: tuple[Source, ...]
    lm_weight: float
    ratio: float
    proposals: tuple[tuple[int, int], ...]
    weak: bool

    @property
    def proposed(self) -> int:
        """Tokens proposed."""
        return sum(proposed for proposed, _ in self.proposals)

    @property
    def accepted(self) -> int:
        """Tokens accepted."""
        return sum(taken for _, taken in self.proposals)


@dataclass(frozen=True)
class SpanRevoked(Event):
    """Every source of a span has been deleted: the text must no longer be shown as a quotation.

    The span may never have been sent, if its source was deleted before it was complete.
    """

    index: int
    id: int
    byte_start: int
    byte_end: int
    token_start: int
    token_end: int


@dataclass
class QuotingStats:
    """Statistics of one sequence; counts do not depend on the machine.

    Attributes
    ----------
    lm_forwards, lm_positions
        Forward passes after the prompt's, and the positions read in them.
    tokens
        Tokens generated.
    span_tokens, match_tokens
        Of those, tokens in spans and token matches.
    spans_proposed, spans_accepted
        Proposals, and those of which at least one token was accepted.
    proposed_tokens, accepted_tokens
        Tokens of the proposals.
    searches
        Positions for which neighbours were searched.
    documents
        Distinct documents named first by a span of kind SPAN.
    dropped
        Spans left out because their bytes differ from their source's.
    revoked
        Spans withdrawn.
    search_seconds, forward_seconds
        Time in search and mixture; time in the forward passes that it took part in.
    """

    lm_forwards: int = 0
    lm_positions: int = 0
    tokens: int = 0
    span_tokens: int = 0
    match_tokens: int = 0
    spans_proposed: int = 0
    spans_accepted: int = 0
    proposed_tokens: int = 0
    accepted_tokens: int = 0
    searches: int = 0
    documents: int = 0
    dropped: int = 0
    revoked: int = 0
    search_seconds: float = 0.0
    forward_seconds: float = 0.0


@dataclass(frozen=True)
class QuotingFinished(Finished):
    """The end of a sequence that quoted, with its statistics."""

    quoting: QuotingStats
