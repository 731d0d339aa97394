"""Grafting on tensors: one forward pass whose weights come, row by row, from several models.

::

    Configuration (which model, by position, layer and component)
        -> Plan (what of it differs from a reference pass, and so has to be computed)
        -> Grafter (layer by layer, all configurations at once)

Everything here takes token ids and modules; it imports neither grpc nor celery.
"""

from services.grafting.engine.amplified import AmplifiedWeights
from services.grafting.engine.architecture import Architecture, architecture_of
from services.grafting.engine.blocks import Reference
from services.grafting.engine.configurations import (
    COMPONENTS,
    LAYER_COMPONENTS,
    Configuration,
    Patch,
    Plan,
    plan,
    row_layers,
)
from services.grafting.engine.low_rank import LowRankWeights, deltas_of, low_rank_deltas
from services.grafting.engine.passes import Grafter, Item
from services.grafting.engine.weights import ModelWeights, Projections, Weights

__all__ = [
    "COMPONENTS",
    "LAYER_COMPONENTS",
    "AmplifiedWeights",
    "Architecture",
    "Configuration",
    "Grafter",
    "Item",
    "LowRankWeights",
    "ModelWeights",
    "Patch",
    "Plan",
    "Projections",
    "Reference",
    "Weights",
    "architecture_of",
    "deltas_of",
    "low_rank_deltas",
    "plan",
    "row_layers",
]
