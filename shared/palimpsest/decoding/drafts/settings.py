"""How drafts are made: settings with their ranges."""

from dataclasses import dataclass
from enum import Enum

from palimpsest.errors import InvalidArgument, Reason

MOST = 10
"""Most drafts of one request."""

LONGEST = 256
"""Most tokens of a draft: superposed ones are of little use long before."""

ORDER_WEIGHTS = (0.01, 0.04, 0.15, 0.18, 0.12)
"""Weights of the orders 2 to 6, as published. They need not sum to 1."""


class DraftStrategy(Enum):
    """Where drafts come from."""

    SUPERPOSED = "superposed"
    """All of them from one sequence, which reads a mixture of their last tokens (Superposed Decoding)."""
    SUPERPOSED_VERIFIED = "superposed_verified"
    """More than asked for, superposed; then each is read exactly, in one pass over their trie, and the best stay."""
    BEAM = "beam"
    """Beam search: the most probable ones, much alike."""
    DIVERSE_BEAM = "diverse_beam"
    """One beam each, kept off the tokens that earlier ones take at the same place."""
    NUCLEUS = "nucleus"
    """Independent samples."""

    @property
    def superposes(self) -> bool:
        """Whether drafts share one sequence."""
        return self in (DraftStrategy.SUPERPOSED, DraftStrategy.SUPERPOSED_VERIFIED)


class StopAt(Enum):
    """Where a draft ends by itself."""

    NONE = "none"
    WORD = "word"
    """After the first whole word."""
    SENTENCE = "sentence"
    """After the mark that ends a sentence, with what closes quotes or brackets."""
    LINE = "line"
    """Before the line break that follows some text."""


class Streaming(Enum):
    """What is told before the end."""

    REWRITES = "with_rewrites"
    """All there is; later deltas may take some of it back."""
    COMMITTED = "committed_only"
    """What no later step can change: what every draft still alive begins with."""
    FINAL = "final_only"
    """Nothing."""


@dataclass(frozen=True)
class DraftSettings:
    """How the drafts of one request are made.

    Parameters
    ----------
    k
        How many.
    strategy
        Where they come from.
    alpha
        Share of the n-gram model in the mixture of log-probabilities; 0 leaves it out.
    temperature
        Of the shared distribution; at 0.06 it is close to its most probable token.
    candidates
        Tokens of the shared distribution that are considered; 0 for three for each draft.
    order_weights
        Of the n-gram orders 2 to 6.
    penalty
        Nats taken from a draft none of whose candidates the store knows; where there is no floor.
    floor
        Share of probability that the n-gram model gives every token, so that what a store lacks is disliked and not
        excluded. 0 as published.
    first_temperature
        Of the first tokens' log-probabilities as scores: below 1, the best draft has more say in the mixture. 1 as
        published.
    over_generate
        Drafts that are made before the best k are chosen; 0 for twice as many. SUPERPOSED_VERIFIED only.
    reset_every
        After so many tokens, all drafts go on from the best one, read exactly; 0 for never. Superposed only.
    diversity
        Nats taken from a token for each earlier beam that has it at the same place. DIVERSE_BEAM only.
    exact
        Read superposed drafts exactly at the end, for their log-probabilities; the others have them anyway.
    stop_at, streaming
        Where drafts end, and what is told meanwhile.
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
        """How many drafts are generated."""
        if self.strategy is DraftStrategy.SUPERPOSED_VERIFIED:
            return self.over_generate or 2 * self.k
        return self.k

    @property
    def pool(self) -> int:
        """How many tokens of the shared distribution are considered."""
        return self.candidates or 3 * self.made

    @property
    def verifies(self) -> bool:
        """Whether drafts are read exactly once they are complete."""
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
                    f"drafts.{name}",
                    f"{name} is {getattr(self, name)}; it is {wanted}.",
                )
        if self.over_generate and self.strategy is not DraftStrategy.SUPERPOSED_VERIFIED:
            raise InvalidArgument.field(
                Reason.DRAFT_SETTINGS_INVALID,
                "drafts.over_generate",
                "over_generate is for SUPERPOSED_VERIFIED alone; leave it out, or choose that strategy.",
            )
        if self.reset_every and not self.strategy.superposes:
            raise InvalidArgument.field(
                Reason.DRAFT_SETTINGS_INVALID,
                "drafts.reset_every",
                "Only superposed drafts are reset; leave reset_every out, or choose such a strategy.",
            )
