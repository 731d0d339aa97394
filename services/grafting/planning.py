"""What a sweep would cost, from its plans and the models' configs."""

from collections.abc import Sequence
from pathlib import Path

from palimpsest.api.grafting.v1 import grafting_pb2 as pb
from palimpsest.models import ModelRecord
from palimpsest.settings import Settings
from services.grafting.pairs import config_of
from services.grafting.sweeps import Grid

_STATES, _INNER = 8, 3
"""Matrices of rows by hidden and by inner size that a layer has at once."""


def plan_of(grid: Grid, records: Sequence[ModelRecord], settings: Settings) -> pb.GraftPlan:
    """Count what a sweep would run.

    Parameters
    ----------
    grid
        What is asked for.
    records
        The models.
    settings
        Tell the dtype.
    """
    config = config_of(Path(records[0].path))
    item = 2 if settings.dtype in ("bfloat16", "float16") else 4
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None)
    row = item * (_STATES * config.hidden_size + _INNER * (inner or 4 * config.hidden_size))
    answer = pb.GraftPlan(
        naive_row_layers=grid.naive_row_layers,
        weight_bytes=item * sum(record.parameter_count for record in records),
    )
    for _, case in grid.prompts:
        answer.row_layers += len(records) * len(case.ids) * grid.facts.layers
    for number, cells, batch in grid.batches():
        answer.cells += len(cells)
        answer.batches += 1
        answer.row_layers += sum(each.row_layers for each in batch.plans)
        logits = 4 * config.vocab_size * len(cells) * len(grid.prompts[number][1].target)
        rows = sum(each.rows for each in batch.plans)
        answer.batch_bytes = max(answer.batch_bytes, rows * row + logits)
    return answer
