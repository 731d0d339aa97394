"""Forward passes that only read: evaluation mode, no gradients, batches of sequences of similar length."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from palimpsest.errors import InvalidArgument, Reason

LOGITS = 1 << 26
"""Most logits of one pass (256 MiB of float32), unless a single sequence has more."""

ROWS = 32
"""Most sequences of one pass."""


@contextmanager
def reading(module: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients; the module is left in the mode it was in.

    Not ``torch.inference_mode``: what a module keeps from such a pass (rotary tables) could not be trained with later.
    """
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(training)


@dataclass(frozen=True, eq=False)
class PaddedBatch:
    """Some sequences, padded on the right.

    Attributes
    ----------
    numbers
        Which sequences they are.
    ids, attention
        int64 [rows, tokens]; attention is 0 on padding.
    """

    numbers: list[int]
    ids: Tensor
    attention: Tensor


def padded(module: nn.Module, sequences: Sequence[Sequence[int]]) -> Iterator[PaddedBatch]:
    """Yield all sequences in batches, longest first, so that a pass that does not fit fails at once.

    Raises
    ------
    InvalidArgument
        PROMPT_TOO_LONG: a sequence is longer than the model's context.
    """
    require_room(module, sequences, 0)
    vocabulary = int(_config(module).vocab_size)
    order = sorted(range(len(sequences)), key=lambda number: -len(sequences[number]))
    while order:
        longest = len(sequences[order[0]])
        rows = max(1, min(ROWS, LOGITS // (longest * vocabulary)))
        numbers, order = order[:rows], order[rows:]
        ids = torch.zeros(len(numbers), longest, dtype=torch.int64)
        attention = torch.zeros_like(ids)
        for row, number in enumerate(numbers):
            length = len(sequences[number])
            ids[row, :length] = torch.tensor(sequences[number])
            attention[row, :length] = 1
        device = device_of(module)
        yield PaddedBatch(numbers, ids.to(device), attention.to(device))


def require_room(module: nn.Module, sequences: Sequence[Sequence[int]], more: int) -> None:
    """Check that sequences and ``more`` new tokens fit the model's context.

    Raises
    ------
    InvalidArgument
        PROMPT_TOO_LONG.
    """
    context = getattr(_config(module), "max_position_embeddings", None)
    longest = max(map(len, sequences), default=0)
    if context and longest + more > context:
        message = (
            f"An item of {longest} tokens and {more} new ones do not fit the model's context of {context} tokens. Cut "
            "the item, or ask for fewer new tokens."
        )
        raise InvalidArgument(
            Reason.PROMPT_TOO_LONG, message, metadata={"prompt_tokens": longest, "context_length": context}
        )


def device_of(module: nn.Module) -> torch.device:
    """Where the module's weights are."""
    return next(module.parameters()).device


def accepts(module: nn.Module, name: str) -> bool:
    """Whether the forward pass has a parameter; of an adapter's wrapper, the model inside is asked."""
    inner = module.get_base_model() if hasattr(module, "get_base_model") else module  # type: ignore[operator]
    return name in inspect.signature(inner.forward).parameters


def _config(module: Any) -> Any:
    return module.config.get_text_config()
