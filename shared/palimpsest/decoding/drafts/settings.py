"""How drafts are made: settings and their ranges."""

from dataclasses import dataclass
from enum import Enum

from palimpsest.errors import InvalidArgument, Reason

MOST = 10
"""Maximum number of drafts in one request."""

LONGEST = 256
"""Maximum number of tokens in a draft; superposed drafts lose their quality long before."""

ORDER_WEIGHTS = (0.01, 0.04, 0.15, 0.18, 0.12)
"""Weights of the n-gram orders 2 to 6, as published. They need not sum to 1."""


class DraftStrategy(Enum):
    """Where drafts come from."""

    SUPERPOSED = "superposed"
    """All drafts share one sequence, which reads a mixture of their last tokens (Superposed Decoding)."""
    SUPERPOSED_VERIFIED = "superposed_verified"
    """More drafts than requested, superposed; then one pass over their trie scores each exactly, and the best stay."""
    BEAM = "beam"
    """Beam search: the most probable drafts, often similar."""
    DIVERSE_BEAM = "diverse_beam"
    """One beam for each draft; tokens chosen by earlier beams at the same position are penalised."""
    NUCLEUS = "nucleus"
    """Independent samples."""

    @property
    def superposes(self) -> bool:
        """Whether drafts share one sequence."""
        return self in (DraftStrategy.SUPERPOSED, DraftStrategy.SUPERPOSED_VERIFIED)


class StopAt(Enum):
    """Where a draft ends before its maximum length."""

    NONE = "none"
    WORD = "word"
    """After the first whole word."""
    SENTENCE = "sentence"
    """After the punctuation that ends a sentence, with closing quotes or brackets."""
    LINE = "line"
    """Before the line break that follows some text."""


class Streaming(Enum):
    """What the stream shows before the drafts are finished."""

    REWRITES = "with_rewrites"
    """The drafts as they are; later deltas may rewrite them."""
    COMMITTED = "committed_only"
    """Only text that no later step can change: the common prefix of all live drafts."""
    FINAL = "final_only"
    """Nothing."""


@dataclass(frozen=True)
class DraftSettings:
    """How the drafts of one request are made.

    Parameters
    ----------
    k
        Number of drafts.
    strategy
        How they are searched for.
    alpha
        Weight of the n-gram model in the mixture of log-probabilities; 0 leaves it out.
    temperature
        Of the shared distribution; at 0.06 nearly all weight is on its most probable token.
    candidates
        Tokens of the shared distribution that are considered; 0 for three for each draft.
    order_weights
        Of the n-gram orders 2 to 6.
    penalty
        Nats subtracted from a draft if the store has none of its candidates; used where floor is 0.
    floor
        Probability mass that the n-gram model spreads over all tokens: tokens without n-gram support get a small
        probability instead of zero. 0 as published.
    first_temperature
        Divides the first tokens' log-probabilities when they become scores. Below 1 the best draft gets a larger
        weight in the mixture. 1 as published.
    over_generate
        Drafts made before the best k are chosen; 0 for 2 k. SUPERPOSED_VERIFIED only.
    reset_every
        After this many tokens all drafts continue from the best one, re-read exactly; 0 for never. Superposed only.
    diversity
        Nats subtracted from a token for each earlier beam that has it at the same position. DIVERSE_BEAM only.
    exact
        Score superposed drafts exactly at the end, for their log-probabilities; other strategies always do.
    stop_at, streaming
        Where drafts end, and what the stream shows before that.
    """

    k: int = 3
    strategy: DraftStrategy = DraftStrategy.SUPERPOSED_VERIFIED
    alpha: float = 0.0
    temperature: float = 0.06
    candidates: int = 0
    order_weights: tuple[float, ...] = ORDER_WEIGHTS
    penalty: float = 200.0
    floor: float = 1e-3
    first_temperature: float = 0.25
    over_generate: int = 0
    reset_every: int = 0
    diversity: float = 1.0
    exact: bool = False
    stop_at: StopAt = StopAt.NONE
    streaming: Streaming = Streaming.REWRITES

    @property
    def made(self) -> int:
        """Number of drafts that are generated."""
        if self.strategy is DraftStrategy.SUPERPOSED_VERIFIED:
            return self.over_generate or 2 * self.k
        return self.k

    @property
    def pool(self) -> int:
        """Number of tokens of the shared distribution that are considered."""
        return self.candidates or 3 * self.made

    @property
    def verifies(self) -> bool:
        """Whether complete drafts are scored exactly."""
        return self.strategy is DraftStrategy.SUPERPOSED_VERIFIED or (
            self.strategy is DraftStrategy.SUPERPOSED and self.exact
        )

    def check(self) -> None:
        """Check every setting's range.

        Raises
        ------
        InvalidArgument
            DRAFT_SETTINGS_INVALID, naming the field.
        """
        weights = self.order_weights
        ranges = (
            ("k", 1 <= self.k <= MOST, f"from 1 to {MOST}"),
            ("alpha", 0 <= self.alpha <= 1, "from 0 to 1"),
            ("temperature", 0 <= self.temperature <= 100, "from 0 to 100"),
            ("candidates", self.candidates == 0 or self.made <= self.candidates <= 1024,
             f"0, or from the {self.made} drafts to 1024"),
            ("order_weights", len(weights) == 5 and all(0 <= w <= 1 for w in weights) and sum(weights) > 0,
             "five numbers from 0 to 1, for the orders 2 to 6, not all 0"),
            ("penalty", 0 <= self.penalty <= 1e4, "from 0 to 10,000"),
            ("floor", 0 <= self.floor <= 1, "from 0 to 1"),
            ("first_temperature", 0.01 <= self.first_temperature <= 100, "from 0.01 to 100"),
            ("over_generate", self.over_generate == 0 or self.k <= self.over_generate <= 4 * MOST,
             f"0, or from k to {4 * MOST}"),
            ("reset_every", 0 <= self.reset_every <= LONGEST, f"from 0 to {LONGEST}"),
            ("diversity", 0 <= self.diversity <= 1e4, "from 0 to 10,000"),
        )  # fmt: skip
        for name, holds, wanted in ranges:  # no range holds what is not finite
            if not holds:
                raise InvalidArgument.field(
                    Reason.DRAFT_SETTINGS_INVALID,
                    _field(name),
                    f"{name} is {getattr(self, name)}; it must be {wanted}.",
                )
        if self.over_generate and self.strategy is not DraftStrategy.SUPERPOSED_VERIFIED:
            raise InvalidArgument.field(
                Reason.DRAFT_SETTINGS_INVALID,
                _field("over_generate"),
                "over_generate applies to SUPERPOSED_VERIFIED only. Leave it unset, or choose that strategy.",
            )
        if self.reset_every and not self.strategy.superposes:
            raise InvalidArgument.field(
                Reason.DRAFT_SETTINGS_INVALID,
                _field("reset_every"),
                "reset_every applies to superposed strategies only. Leave it unset, or choose one of them.",
            )


def _field(name: str) -> str:
    """The request field of a setting."""
    return name if name == "k" else f"settings.{name}"
