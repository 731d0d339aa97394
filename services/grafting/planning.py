"""What a sweep would cost, from its plans and the models' configs."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from palimpsest.api.grafting.v1 import grafting_pb2 as pb
from palimpsest.models import ModelRecord
from palimpsest.settings import Settings
from services.grafting.attribution.trie import first_layer
from services.grafting.engine import Configuration, Patch
from services.grafting.engine.quantised import method_of
from services.grafting.pairs import Donor, config_of
from services.grafting.runs import Case, batches
from services.grafting.sweeps import Grid, subset_rows

_STATES, _INNER = 8, 3
"""Matrices of rows by hidden and by inner size that a layer has at once."""


def plan_of(grid: Grid, base: ModelRecord, donors: Sequence[Donor], settings: Settings) -> pb.GraftPlan:
    """Count what a sweep would run.

    Parameters
    ----------
    grid
        What is asked for.
    base, donors
        The models.
    settings
        Tell the dtype.
    """
    config = config_of(Path(base.path))
    item = 2 if settings.dtype in ("bfloat16", "float16") else 4
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None)
    row = item * (_STATES * config.hidden_size + _INNER * (inner or 4 * config.hidden_size))
    answer = pb.GraftPlan(
        naive_row_layers=grid.naive_row_layers,
        weight_bytes=sum(_weight_bytes(record, item) for record in (base, *donors)),
    )
    for number, (_, case) in enumerate(grid.prompts):
        answer.cells += grid.count_of(number)
        for each in grid.passes_of(number):
            answer.row_layers += 2 * len(each.ids) * grid.facts.layers
            for cells, rows, row_layers in _batches(grid, number, each):
                answer.batches += each is case
                answer.row_layers += row_layers
                logits = 4 * config.vocab_size * cells * len(each.target)
                answer.batch_bytes = max(answer.batch_bytes, rows * row + logits)
    return answer


def _weight_bytes(record: Donor, item: int) -> int:
    """Memory of a model's weights: what is quantised stays as it is stored."""
    if isinstance(record, ModelRecord) and method_of(config_of(Path(record.path))):
        return record.size_bytes
    return item * record.parameter_count


def _batches(grid: Grid, number: int, case: Case) -> Iterator[tuple[int, int, int]]:
    """Yield cells, rows and rows through layers of what runs at once."""
    count = grid.facts.layers
    if not grid.axes.subsets:
        configurations = [cell.configuration for cell in grid.cells_of(number)]
        for batch in batches(case, configurations, count):
            rows = sum(each.rows for each in batch.plans)
            yield len(batch.plans), rows, sum(each.row_layers for each in batch.plans)
        return
    segments = grid.units_of(number)
    for layers, names in grid.kinds():
        grafted = [Configuration((Patch(positions, layers, names),)) for _, positions in segments]
        starts = [min(case.extended(each).patches[0].positions) for each in grafted]
        rows = subset_rows(len(case.ids), starts)
        yield (1 << len(segments)) - 1, rows, rows * (count - first_layer(names, layers, count))
