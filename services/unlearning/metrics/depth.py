"""The depth score: how far into the model what was to be forgotten still comes along.

An adapter that makes a model refuse, or one last layer tuned to, passes every measure of outputs while the layers below
still hold the answer. So the unlearned model's hidden states are patched into the target model (the one before the
removal), layer by layer, and the target is asked for the answer (after Lee et al. 2026, "Measuring the depth of LLM
unlearning via activation patching", arXiv 2605.24614).

Definition. Let an item be a question and its true answer as one sequence. For each layer l of 1 to L, the residual
stream of the target after layer l, at all positions, is replaced by that of the unlearned model on the same sequence;
layers l + 1 to L, the final norm and the head of the target do the rest. Of the answer's tokens are then measured
nll_l, the mean negative log-probability in nats, and exact_l, the share that is predicted. nll_full and exact_full are
those of the target as it is. The unlearned model carries the item at layer l

- with a reference (convention "reference"; a model that never saw the forget set, of the same shape and origin, patched
  in the same way), if nll_l is nearer to nll_full than to the reference's nll_l. Only layers at which the reference
  loses more than 0.05 nats against nll_full count for the item: at the others the target's later layers supply the
  answer by themselves, whatever they are given, and nothing can be told.
- without one (convention "alone"), if exact_l is at least half of exact_full; all layers count. As the first layers
  of any model pass this test, such a score can only be compared with that of another model.

An item's value is the share of its counted layers at which it is carried; the score is the mean over the items for
which a layer counts (of which exact_full is above 0, where there is no reference). 0: nothing is left at any depth. 1:
the knowledge is whole, whatever the outputs say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.progress import Progress
from services.unlearning.metrics.intervals import Bootstrap
from services.unlearning.metrics.items import (
    Pair,
    Prompt,
    Template,
    continuations,
    require_items,
)
from services.unlearning.metrics.patching import Patched, patched_recovery
from services.unlearning.metrics.scores import Definition, Score, mean_score

DEPTH = Definition("depth", 1, "share", "lower", target=0.0)
"""Share of the layers whose states still carry what was to be forgotten."""

LOSS = 0.05
"""Nats a token that the reference's states must cost at a layer for the layer to count."""


@dataclass(frozen=True)
class LayerRecovery:
    """What comes back when the unlearned model's states are patched in after one layer.

    Attributes
    ----------
    layer
        Its number, from 1.
    nll
        Mean over items, in nats a token.
    exact
        Mean share of predicted answer tokens.
    carried
        Share of the items that are carried, among those for which the layer counts; None where it counts for none.
    """

    layer: int
    nll: float
    exact: float
    carried: float | None


@dataclass(frozen=True)
class Depth:
    """The score and, from the first layer to the last, what it is made of."""

    score: Score
    layers: tuple[LayerRecovery, ...]


def depth_score(
    unlearned: nn.Module,
    target: nn.Module,
    tokenizer: Any,
    items: Sequence[Prompt | Pair],
    *,
    reference: nn.Module | Patched | None = None,
    template: Template | None = None,
    bootstrap: Bootstrap | None = None,
    progress: Progress | None = None,
) -> Depth:
    """Measure the depth score of an unlearned model; the module's docstring defines it.

    Parameters
    ----------
    unlearned
        The model after the removal; an adapter's wrapper will do.
    target
        The model before it, with layers of its own: peft puts an adapter into the model that it is made for.
    tokenizer
        Of both.
    items
        Forgotten questions and answers, or documents' beginnings and how they go on.
    reference
        A model that never saw them, or what :func:`patched_recovery` gave for it.
    template
        How questions are put; None for the usual one.
    bootstrap
        How the interval is made; None for the usual one.
    progress
        Asked before every pass whether to go on.

    Raises
    ------
    InvalidArgument
        METRIC_ITEMS_INVALID: no items, or none of which anything can be told, as the target does not know them.
        PROMPT_TOO_LONG.
    FailedPrecondition
        METRIC_MODELS_DIFFER: the models are not of one shape. METRIC_NOT_FINITE.
    """
    require_items(items, "items")
    sequences = continuations(items, tokenizer, template)
    of = patched_recovery(unlearned, target, sequences, progress=progress)
    if isinstance(reference, nn.Module):
        reference = patched_recovery(reference, target, sequences, progress=progress)
    counted, carried = _judged(of, reference)
    told = np.any(counted, axis=0)
    if not told.any():
        message = (
            "The model before the removal does not know the answers, or one that never saw them serves as well: "
            "nothing can be told. Take items that it was trained on."
        )
        raise InvalidArgument(Reason.METRIC_ITEMS_INVALID, message)
    values = {
        sequence.id: float(carried[:, at].sum() / counted[:, at].sum())
        for at, sequence in enumerate(sequences)
        if told[at]
    }
    score = mean_score(DEPTH, values, bootstrap, "alone" if reference is None else "reference")
    return Depth(score, _by_layer(of, counted, carried))


def _judged(of: Patched, reference: Patched | None) -> tuple[np.ndarray, np.ndarray]:
    """Which layers count for which items, and at which of those they are carried; bool [layers, items]."""
    if reference is None:
        counted = np.broadcast_to(of.full_exact > 0, of.exact.shape)
        return counted, counted & (of.exact >= of.full_exact / 2)
    lost = reference.nll - of.full_nll
    counted = lost > LOSS
    return counted, counted & (of.nll - of.full_nll < lost / 2)


def _by_layer(of: Patched, counted: np.ndarray, carried: np.ndarray) -> tuple[LayerRecovery, ...]:
    return tuple(
        LayerRecovery(
            layer + 1,
            float(of.nll[layer].mean()),
            float(of.exact[layer].mean()),
            float(carried[layer].sum() / counted[layer].sum()) if counted[layer].any() else None,
        )
        for layer in range(len(of.nll))
    )
