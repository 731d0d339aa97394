"""A sweep as columns: a row for each cell, in Parquet, with the numbers of the JSON table."""

import json
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

from palimpsest.errors import FailedPrecondition, Reason
from palimpsest.report.grafting.table import Table

ABOUT = "palimpsest-grafts"
"""Key of the file's metadata that has the table without its cells, as JSON."""

_NUMBERS = ("logprob", "probability", "top_probability", "recovery", "kl_base", "kl_donor")
_COUNTS = ("rank", "ties")
_FURTHER = ("estimate", "strength", "margin", "contrast_logprob", "contrast_probability", "contrast_rank")
_COLUMNS = (
    "case", "position", "token", "layer_first", "layer_stop", "components", *_NUMBERS, *_COUNTS, "top",
    "token_logprobs", *_FURTHER,
)  # fmt: skip


def columns_of(table: Table) -> dict[str, list[Any]]:
    """The columns by name, in the order of the table; None is what is not set.

    Nothing of a reading is, where a cell was only estimated.
    """
    found: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    for number, (case, raw) in enumerate(zip(table.cases, table.raw["cases"], strict=True)):
        for cell, raw_cell in zip(case.cells, raw["cells"], strict=True):
            token = case.token_of(cell.row)
            row = {
                "case": number,
                "position": cell.row,
                "token": None if token is None else case.tokens[token],
                "layer_first": cell.first,
                "layer_stop": cell.stop,
                "components": list(cell.components),
                "top": cell.reading.top if cell.exact else None,
                "token_logprobs": list(map(float, raw_cell.get("reading", {}).get("token_logprobs", ()))),
                **{name: cell.reading.values.get(name) for name in (*_NUMBERS, *_COUNTS, *_FURTHER)},
            }
            for name, value in row.items():
                found[name].append(value)
    return found


def require_arro3() -> tuple[Any, Any]:
    """Return the modules that write Parquet, ``arro3.core`` and ``arro3.io``.

    Raises
    ------
    FailedPrecondition
        SERVICES_MISSING: the extra ``parquet`` is not installed.
    """
    try:
        from arro3 import core, io  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise FailedPrecondition(
            Reason.SERVICES_MISSING,
            "Parquet needs arro3, which is not installed here: pip install 'palimpsest-lm[parquet]'.",
        ) from None
    return core, io


def write_parquet(path: Path, table: Table) -> None:
    """Write the columns as Parquet.

    Raises
    ------
    FailedPrecondition
        SERVICES_MISSING: the extra ``parquet`` is not installed.
    """
    core, io = require_arro3()
    text, count, real = core.DataType.utf8(), core.DataType.int32(), core.DataType.float64()
    types: dict[str, Any] = dict.fromkeys(("position", "token", "top", "components"), text)
    types |= dict.fromkeys(("case", "layer_first", "layer_stop", *_COUNTS), count)
    columns: dict[str, Any] = {}
    for name, values in columns_of(table).items():
        kind = types.get(name, real)
        if name in ("components", "token_logprobs"):
            ends = core.Array([0, *accumulate(map(len, values))], count)
            columns[name] = core.list_array(ends, core.Array(list(chain.from_iterable(values)), kind))
        else:
            columns[name] = core.Array(values, kind)
    about = {key: value for key, value in table.raw.items() if key != "cases"}
    about["cases"] = [{k: v for k, v in each.items() if k != "cells"} for each in table.raw["cases"]]
    io.write_parquet(
        core.Table.from_pydict(columns),
        path,
        compression="zstd(3)",
        key_value_metadata={ABOUT: json.dumps(about, ensure_ascii=False)},
    )
