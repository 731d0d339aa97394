"""Training: examples, losses, the loop, checkpoints and adapters, over the models that ``palimpsest.lm`` loads."""

from typing import TYPE_CHECKING

from palimpsest.lazy import names_from

if TYPE_CHECKING:
    from palimpsest.training.batches import Batch, Example, collate
    from palimpsest.training.checkpoints import Checkpoints
    from palimpsest.training.history import History
    from palimpsest.training.loop import Objective, train
    from palimpsest.training.order import Order, derived_seed
    from palimpsest.training.recipe import LoraSettings, Recipe
    from palimpsest.training.token_losses import counts, sequence_nll, token_nll

__all__ = [
    "Batch",
    "Checkpoints",
    "Example",
    "History",
    "LoraSettings",
    "Objective",
    "Order",
    "Recipe",
    "collate",
    "counts",
    "derived_seed",
    "sequence_nll",
    "token_nll",
    "train",
]

_HOMES = {
    "Batch": "batches",
    "Checkpoints": "checkpoints",
    "Example": "batches",
    "History": "history",
    "LoraSettings": "recipe",
    "Objective": "loop",
    "Order": "order",
    "Recipe": "recipe",
    "collate": "batches",
    "counts": "token_losses",
    "derived_seed": "order",
    "sequence_nll": "token_losses",
    "token_nll": "token_losses",
    "train": "loop",
}

__getattr__ = names_from(__name__, _HOMES)
