"""Options of ``palimpsest graft sweep``, and how what it found is shown."""

import json
from typing import Annotated, Any

import typer

from palimpsest.api.grafting.v1 import grafting_pb2 as pb
from palimpsest.cli.grafts.options import names_of, positions_of, text_of
from palimpsest.cli.output import printing as output

_CELLS_SHOWN = 20

Prompts = Annotated[
    list[str], typer.Option("--prompt", help="The text to continue. Repeatable, with as many targets.")
]
Targets = Annotated[
    list[str],
    typer.Option("--target", help="The continuation to look for after it, with its leading space."),
]
Contrasts = Annotated[
    list[str] | None,
    typer.Option(
        "--contrast",
        help="Another continuation to read in every cell, such as the answer before. One for each prompt.",
    ),
]
Sources = Annotated[
    list[str] | None,
    typer.Option(
        "--source",
        metavar="N[:WEIGHT]",
        help="Whose weights: 0 DONOR's, 1 the first --other's; of its change WEIGHT times as much (0:2). Repeatable.",
    ),
]
Subsets = Annotated[
    bool,
    typer.Option(
        "--subsets", help="Every subset of the --at, at most 8: with Shapley and interaction values."
    ),
]
Preview = Annotated[
    bool,
    typer.Option("--preview", help="Estimate all cells; graft the largest, and some at random to check."),
]
PreviewFirst = Annotated[
    bool, typer.Option("--preview-first", help="Estimate all cells, then graft them all.")
]
VerifyTop = Annotated[int, typer.Option("--verify-top", min=0, help="Of a preview: largest cells to graft.")]
VerifyRandom = Annotated[
    int, typer.Option("--verify-random", min=0, help="Of a preview: other cells to graft.")
]
Seed = Annotated[int, typer.Option("--seed", help="Of a preview: draws the other cells.")]
Steps = Annotated[
    int,
    typer.Option(
        "--steps", min=0, max=64, help="Of a preview: points of an integrated gradient; 0 for none."
    ),
]
OwnLayer = Annotated[
    bool, typer.Option("--own-layer", help="Of a preview: compute the layer of each cell anew.")
]
Drops = Annotated[
    int,
    typer.Option(
        "--drops", min=0, max=64, help="Of a preview: groups of layers to leave out of the gradient."
    ),
]
Sufficient = Annotated[
    float | None,
    typer.Option("--sufficient", min=0.0, max=1.0, help="Look for a small set with at least this recovery."),
]


def cases_of(
    prompts: list[str],
    targets: list[str],
    contrasts: list[str] | None = None,
    chat: bool = False,
    system: str = "",
) -> list[dict[str, Any]]:
    """Pair prompts, or chats of them, with targets, and with contrasts if there are any."""
    told = contrasts or [""] * len(prompts)
    for what, texts, option in (("targets", targets, "--target"), ("contrasts", told, "--contrast")):
        if len(prompts) != len(texts):
            raise typer.BadParameter(
                f"There are {len(prompts)} prompts and {len(texts)} {what}.", param_hint=option
            )
    return [
        {**text_of(p, chat, system), "target": t, "contrast": c}
        for p, t, c in zip(prompts, targets, told, strict=True)
    ]


def axes_of(
    at: list[str] | None,
    window: int,
    stride: int,
    components: list[str] | None,
    sources: list[str] | None,
    subsets: bool = False,
) -> dict[str, Any]:
    """Return the axes that a command's options describe."""
    return {
        "positions": [{"name": where, "positions": positions_of([where], False)} for where in at or ()],
        "window": window,
        "stride": stride,
        "components": [{"components": names_of(names)} for names in components or ()],
        "subsets": subsets,
        "sources": [source_of(each) for each in sources or ()],
    }


def source_of(text: str) -> dict[str, Any]:
    """Read a source with its weight."""
    number, _, weight = text.partition(":")
    try:
        return {"source": int(number), "weight": float(weight or 1)}
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no source; write N or N:WEIGHT, such as 0:2.", param_hint="--source"
        ) from None


def estimating(
    preview: bool,
    first: bool,
    top: int,
    random: int,
    seed: int,
    steps: int,
    own_layer: bool,
    drops: int,
    sufficient: float | None,
) -> dict[str, Any]:
    """Return the fields of a request that say how cells are estimated and whether a set is looked for."""
    fields: dict[str, Any] = {}
    told = {
        "verify_top": top,
        "verify_random": random,
        "seed": seed,
        "steps": steps,
        "own_layer": own_layer,
        "drops": drops,
    }
    if preview or first:
        fields["mode"] = pb.SWEEP_MODE_BOTH if first else pb.SWEEP_MODE_PREVIEW
    if preview or first or any(told.values()):
        fields["preview"] = told
    if sufficient is not None:
        fields["sufficient"] = {"threshold": sufficient}
    return fields


def show(table: dict[str, Any], done: pb.GraftSweep) -> None:
    """Print the cells that recover most, case by case, and what follows from all of them."""
    for case in table["cases"]:
        if len(table["cases"]) > 1:
            typer.echo(f"\n{case['prompt']}")
        grafted = [cell for cell in case["cells"] if "reading" in cell]
        cells = sorted(grafted, key=lambda cell: -cell["reading"]["logprob"])[:_CELLS_SHOWN]
        rows = [(_where(cell, case["tokens"]), *_figures(cell)) for cell in cells]
        heads = ["at", "layers", "components", ">log-probability", ">rank", ">recovery", ">estimated change"]
        if "contrast" in case:
            heads.append(">ahead of the contrast by")
            rows = [(*row, f"{c['contrast']['margin']:+.4f}") for row, c in zip(rows, cells, strict=True)]
        output.print_table(heads, rows)
        for values in case["values"]:
            _show_values(values)
    for found in table["sufficient"]:
        _show_set(found, table["cases"][found["case"]]["tokens"])
    for found in table["previews"]:
        correlation = found.get("correlation")
        told = "" if correlation is None else f", correlation with grafts {correlation:.3f}"
        output.note(
            f"case {found['case']}: {found['top'] + found['random']} of {found['cells']} estimates were checked{told}; "
            f"at most {found['missed_at_most']} more cells are above the tenth"
        )
    if len(table["cases"]) > 1 and table["summaries"]:
        rows = [
            (s["position"], _window(s), ", ".join(s["components"]), s["cases"], *_interval(s))
            for s in table["summaries"][:_CELLS_SHOWN]
        ]
        output.print_table(["at", "layers", "components", ">cases", ">mean recovery", "95 % interval"], rows)
    share = done.row_layers / done.naive_row_layers if done.naive_row_layers else 0.0
    output.note(f"{done.cells} cells, {share:.0%} of the rows of a pass for each; table {done.table.digest}")


def _show_values(values: dict[str, Any]) -> None:
    rows = [
        (s["segment"], *(f"{s[name]:.3f}" for name in ("shapley", "alone", "without")))
        for s in values["segments"]
    ]
    output.print_table(["segment", ">Shapley value", ">alone", ">all but it"], rows)
    pairs = [(i["first"], i["second"], f"{i['value']:+.3f}") for i in values["interactions"]]
    if pairs:
        output.print_table(["segment", "and", ">interaction"], pairs)


def _show_set(found: dict[str, Any], tokens: list[str]) -> None:
    what = f"case {found['case']}, layers {_window(found)}, {', '.join(found['components'])}"
    if not found["reached"]:
        output.note(f"{what}: all together do not reach {found['threshold']:g}")
        return
    names = ", ".join(_where({"position": name}, tokens) for name in found["positions"])
    rest = found.get("complement")
    told = "" if rest is None else f"; all other tokens {rest:.3f}"
    output.note(f"{what}: enough are {names}, recovery {found['recovery']:.3f}{told}")


def _where(cell: dict[str, Any], tokens: list[str]) -> str:
    name, selection = cell["position"], cell.get("selection") or cell["position"]
    token = f" {json.dumps(tokens[int(selection)], ensure_ascii=False)}" if selection.isdecimal() else ""
    return f"{name}{token}"


def _window(cell: dict[str, Any]) -> str:
    return f"{cell['layers']['first']} to {cell['layers']['stop'] - 1}"


def _figures(cell: dict[str, Any]) -> tuple[str, ...]:
    reading, estimate = cell["reading"], cell.get("estimate")
    recovery = reading.get("recovery")
    return (
        _window(cell),
        ", ".join(cell["components"]),
        f"{reading['logprob']:.4f}",
        str(reading["rank"]),
        "" if recovery is None else f"{recovery:.3f}",
        "" if estimate is None else f"{estimate:+.4f}",
    )


def _interval(summary: dict[str, Any]) -> tuple[str, str]:
    low, high = summary.get("low"), summary.get("high")
    told = "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
    return f"{summary['mean_recovery']:.3f}", told
