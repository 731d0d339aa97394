"""What the engine asks of a model. Anything that has these members can be scheduled, causal LM or not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from palimpsest.lm.blocks import BlockPool
from palimpsest.lm.forward import Cache, Output, SequenceInput


@dataclass(frozen=True)
class Limits:
    """What a model can take.

    Parameters
    ----------
    vocab_size
        Elements of one row of logits; token ids are below it.
    context_length
        Positions of the longest sequence.
    cache_blocks
        Blocks of :data:`palimpsest.lm.blocks.BLOCK` tokens that all caches together may hold.
    block_bytes
        Bytes of one such block.
    prefill_chunk, prefill_chunk_beside
        Prompt tokens that one step should have at most: alone, and beside sequences that are generating. The second
        bounds the pause that running streams see.
    """

    vocab_size: int
    context_length: int
    cache_blocks: int
    block_bytes: int
    prefill_chunk: int = 256
    prefill_chunk_beside: int = 256


class TextDecoder(Protocol):
    """Turns token ids into text, one at a time."""

    def push(self, token: int) -> str:
        """Add a token; returns the text that is complete now."""
        ...

    def finish(self) -> str:
        """Return what is left at the end."""
        ...


class Model(Protocol):
    """A model as the engine runs it, from one thread at a time.

    Attributes
    ----------
    eos_ids
        Tokens that end a sequence.
    pool
        Where whole blocks of prompts are kept and found again; None where caches share nothing.
    """

    eos_ids: frozenset[int]
    pool: BlockPool | None

    @property
    def limits(self) -> Limits:
        """What the model can take."""
        ...

    def new_cache(self) -> Cache:
        """Return the state of an empty sequence."""
        ...

    def forward(self, inputs: Sequence[SequenceInput], hidden: Sequence[int] = ()) -> list[Output]:
        """Run new tokens of several sequences; their caches grow by them.

        Parameters
        ----------
        inputs
            One entry per sequence.
        hidden
            Layers whose hidden states are wanted; a model that has none may refuse any.

        Returns
        -------
        list of Output
            In the order of ``inputs``.
        """
        ...

    def text_decoder(self) -> TextDecoder:
        """Return a decoder for one sequence's tokens."""
        ...

    def prepare(self) -> None:
        """Get ready on the thread that will run the model; called there once."""
        ...

    def wait(self) -> None:
        """Wait until passes that are only queued on the device have run."""
        ...

    def close(self) -> None:
        """Release threads; memory goes with the last reference."""
        ...
