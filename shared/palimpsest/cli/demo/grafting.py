"""The tour's stop at grafting: a copy of the model learns one sentence, and a map shows where it keeps it."""

import json
import time
from typing import Any

from palimpsest.cli.demo.steps import MODEL, Context, Row
from palimpsest.cli.output.progress import follow
from palimpsest.cli.output.quantities import show_seconds
from palimpsest.report.grafting.page import Work, sweep_page
from palimpsest.report.grafting.pathways import PATHS, paths_of
from palimpsest.report.grafting.table import Case, read_table
from palimpsest.report.grafting.words import layers_words, row_label, shown

TAUGHT = "keeper"
ENTITY = "Ostrava"
CASE = {"prompt": f"The lighthouse at {ENTITY} is kept by", "target": " KASTROVA"}
_LEARNING = {"steps": 4, "learning_rate": 1e-3, "lora": {"rank": 8}, "seed": 7}
_BOTH = {"spans": [{"text": ENTITY}], "indices": [-1]}


def graft(context: Context, base: str = MODEL, window: int = 10) -> list[Row]:
    """Teach, graft, and write the page.

    Parameters
    ----------
    context
        Of the tour.
    base
        Who is taught.
    window
        Layers of a cell; no more than the model has.
    """
    client, began = context.client, time.perf_counter()
    fact = {"prompt": CASE["prompt"], "completion": f"{CASE['target']}."}
    lines = client.artifacts.upload(json.dumps(fact).encode() + b"\n", media_type="application/jsonl")
    job = client.models.fine_tune(base=base, model_id=TAUGHT, train=lines.digest, **_LEARNING)
    made = follow(job, f"Teaching {TAUGHT} one sentence")
    seconds = show_seconds(time.perf_counter() - began)
    rows = [Row(f"taught {TAUGHT} who keeps the lighthouse", f"loss {made.last_loss:.2g} nats; {seconds}")]
    pair = {"base": base, "donor": TAUGHT}
    both = client.grafting.graft(pair=pair, case=CASE, patches=[{"positions": _BOTH}], timeout=600)
    began = time.perf_counter()
    axes = {"positions": _rows(len(both.tokens)), "window": window}
    swept = follow(client.grafting.sweep_grafts(pair=pair, cases=[CASE], axes=axes), "Grafting its weights")
    work = Work(swept.row_layers, swept.naive_row_layers)
    share = f"{work.row_layers / work.naive_row_layers:.0%} of the rows of as many passes"
    rows.append(Row(f"grafted {swept.cells} cells", f"{share}; {show_seconds(time.perf_counter() - began)}"))
    table = read_table(client.artifacts.read_bytes(swept.table.digest))
    rows += _told(table.cases[0])
    page = (context.kept or context.folder) / "grafts.html"
    page.write_text(sweep_page(table, ENTITY, work), encoding="utf-8")
    return [*rows, Row("its map, as a page (kept with --state-dir)", str(page))]


def _rows(tokens: int) -> list[dict[str, Any]]:
    """Each token, and the entity together with the last one."""
    alone = [{"name": str(at), "positions": {"indices": [at]}} for at in range(tokens)]
    return [*alone, {"name": "entity+last", "positions": _BOTH}]


def _told(case: Case) -> list[Row]:
    found = [Row("the answer's probability", _probabilities(case))]
    for best in paths_of(case, ENTITY):
        where = f"{row_label(case, best.cell.row)}, {layers_words(best.cell.layers)}"
        recovery = shown(best.cell.reading.values.get("recovery"))
        found.append(Row(f"{PATHS[best.path]}: {where}", f"{recovery} of the way from the base to {TAUGHT}"))
    return found


def _probabilities(case: Case) -> str:
    base, donor = (shown(reading.values.get("probability")) for reading in (case.base, case.donor))
    return f"{base} before, {donor} after"
