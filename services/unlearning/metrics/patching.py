"""Activation patching: one model's hidden states in another model, layer by layer."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from palimpsest.errors import FailedPrecondition, Reason
from palimpsest.lm.anatomy import blocks_of
from palimpsest.progress import NullProgress, Progress
from services.unlearning.metrics.items import Continuation
from services.unlearning.metrics.passes import padded, reading
from services.unlearning.metrics.token_scores import read


@dataclass(frozen=True, eq=False)
class Patched:
    """The target under patching.

    Attributes
    ----------
    nll, exact
        float64 [layers, items].
    full_nll, full_exact
        float64 [items]: the target as it is.
    """

    nll: np.ndarray
    exact: np.ndarray
    full_nll: np.ndarray
    full_exact: np.ndarray


def patched_recovery(
    source: nn.Module,
    target: nn.Module,
    sequences: Sequence[Continuation],
    *,
    progress: Progress | None = None,
) -> Patched:
    """Patch a model's states into the target after each layer in turn, and measure the counted tokens of sequences.

    Takes a pass of the source and layers + 1 passes of the target.

    Raises
    ------
    FailedPrecondition
        METRIC_MODELS_DIFFER, METRIC_NOT_FINITE.
    InvalidArgument
        PROMPT_TOO_LONG.
    """
    progress = progress or NullProgress()
    layers = _require_same_shape(source, target)
    nll, exact = np.zeros((2, layers + 1, len(sequences)))  # the last row is the target as it is
    with reading(source), reading(target):
        for rows in padded(target, [sequence.ids for sequence in sequences]):
            given = {"input_ids": rows.ids, "attention_mask": rows.attention, "use_cache": False}
            of_rows = [sequences[number] for number in rows.numbers]
            with _recorded(source) as states:
                source(**given)
            for layer in range(layers + 1):
                progress.check()
                with _replaced(target, layer, states):
                    scored = read(target(**given).logits, of_rows)
                nll[layer, rows.numbers] = [scores.nll for scores in scored]
                exact[layer, rows.numbers] = [scores.correct.mean() for scores in scored]
    return Patched(nll[:-1], exact[:-1], nll[-1], exact[-1])


@contextmanager
def _recorded(module: nn.Module) -> Iterator[dict[int, Tensor]]:
    """Collect the residual stream after each block of the next pass, [rows, tokens, hidden], by the block's index."""
    states: dict[int, Tensor] = {}

    def hook_of(layer: int) -> Any:
        def hook(_module: nn.Module, _given: Any, output: Any) -> None:
            states[layer] = output if isinstance(output, Tensor) else output[0]

        return hook

    hooks = [block.register_forward_hook(hook_of(at)) for at, block in enumerate(blocks_of(module))]
    try:
        yield states
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _replaced(module: nn.Module, layer: int, states: dict[int, Tensor]) -> Iterator[None]:
    """Let a block put out other states than its own; a layer past the last replaces nothing."""
    blocks = blocks_of(module)
    if layer >= len(blocks):
        yield
        return

    def hook(_module: nn.Module, _given: Any, output: Any) -> Any:
        own = output if isinstance(output, Tensor) else output[0]
        new = states[layer].to(own)  # its dtype and device
        return new if isinstance(output, Tensor) else (new, *output[1:])

    handle = blocks[layer].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _require_same_shape(source: Any, target: Any) -> int:
    """Check that states of one model fit the other; returns the number of layers."""
    if source is not target and blocks_of(source)[0] is blocks_of(target)[0]:
        message = (
            "The two models share their layers: an adapter is put into the very model that it is made for. Load the "
            "model before the removal a second time, without the adapter."
        )
        raise FailedPrecondition(Reason.METRIC_MODELS_DIFFER, message)
    shapes = []
    for module in (source, target):
        config = module.config.get_text_config()
        shapes.append((len(blocks_of(module)), int(config.hidden_size), int(config.vocab_size)))
    if shapes[0] != shapes[1]:
        message = (
            f"The models have (layers, hidden size, vocabulary) {shapes[0]} and {shapes[1]}: the states of one do not "
            "fit the other. Compare a model with the one that it was made from."
        )
        raise FailedPrecondition(Reason.METRIC_MODELS_DIFFER, message)
    return shapes[0][0]
