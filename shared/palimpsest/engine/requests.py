"""What goes into the engine."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from palimpsest.engine.external_prefix import ExternalPrefix
from palimpsest.lm.sampling import Sampling

if TYPE_CHECKING:
    from palimpsest.engine.sequence import Strategy


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
    prefix: ExternalPrefix | None = None
    strategy: "Strategy | None" = None
