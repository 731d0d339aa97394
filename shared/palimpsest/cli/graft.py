"""``palimpsest graft``: where a fine-tuned fact lives, by a donor's weights in a base model's pass."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from palimpsest import json_input
from palimpsest.api.grafting.v1 import grafting_pb2 as pb
from palimpsest.cli.graft_sweep import (
    Drops,
    OwnLayer,
    Preview,
    PreviewFirst,
    Prompts,
    Seed,
    Steps,
    Subsets,
    Sufficient,
    Targets,
    VerifyRandom,
    VerifyTop,
    cases_of,
    estimating,
    show,
)
from palimpsest.cli.output import printing as output
from palimpsest.cli.output.progress import follow
from palimpsest.cli.session import Session, command

app = typer.Typer(help="Graft a donor's weights into a base model's pass.", no_args_is_help=True)

_CHANGES_SHOWN = 12
_TABLE_BYTES = 1 << 30

Base = Annotated[str, typer.Argument(metavar="BASE", help="Model whose weights act elsewhere.")]
Donor = Annotated[str, typer.Argument(metavar="DONOR", help="Model whose weights are grafted.")]
Prompt = Annotated[str, typer.Option("--prompt", help="The text to continue.")]
Target = Annotated[
    str, typer.Option("--target", help="The continuation to look for, with its leading space.")
]
At = Annotated[
    list[str] | None,
    typer.Option(
        "--at",
        metavar="WHERE",
        help="A text of the prompt (TEXT#2: the second one), a token's number (-1: the last), or all. Repeatable.",
    ),
]
Complement = Annotated[bool, typer.Option("--complement", help="All tokens but those of --at.")]
Layers = Annotated[
    str, typer.Option("--layers", metavar="FIRST:STOP", help="Layers before STOP. Default: all.")
]
Components = Annotated[
    str,
    typer.Option("--components", metavar="NAMES", help="Components and groups, with commas. Default: layer."),
]
Untie = Annotated[
    bool, typer.Option("--untie", help="Embedding or head may be grafted alone although they are one matrix.")
]
Window = Annotated[int, typer.Option("--window", min=0, help="Layers of a cell; 0 for 1.")]
Stride = Annotated[
    int, typer.Option("--stride", min=0, help="Layers from one window to the next; 0 for its size.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--components", metavar="NAMES", help="A set of components, with commas. Repeatable."),
]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the table of cells here.")]
Wait = Annotated[bool, typer.Option(help="Wait for the job, or print its name and return.")]


def check(session: Session, base: Base, donor: Donor, prompt: Prompt = "") -> None:
    """Say whether two models can be grafted, and where their weights and predictions differ."""
    with session.client() as client:
        found = client.grafting.check_pair(pair={"base": base, "donor": donor}, prompt=prompt, timeout=600)
    if session.json:
        output.print_json(found)
        return
    if not found.compatible:
        output.print_fields({"compatible": "no", "reason": found.reason})
        for difference in found.differences:
            typer.echo(f"  {difference}")
        return
    output.print_fields(
        {
            "compatible": "yes",
            "architecture": f"{found.architecture}, {found.layers} layers",
            "embedding and head": "one matrix" if found.tied else "two matrices",
            "components that differ": len(found.changes),
        }
    )
    most = sorted(found.changes, key=lambda change: -change.relative_norm)[:_CHANGES_SHOWN]
    rows = [(c.layer if c.layer >= 0 else "", c.component, f"{c.relative_norm:.2g}") for c in most]
    output.print_table([">layer", "component", ">relative change"], rows)
    if found.tokens:
        rows = [
            (at, json.dumps(t.token, ensure_ascii=False), f"{t.kl:.4f}") for at, t in enumerate(found.tokens)
        ]
        output.print_table([">position", "token", ">divergence after it (nats)"], rows)


def run(
    session: Session,
    base: Base,
    donor: Donor,
    prompt: Prompt,
    target: Target,
    at: At = None,
    complement: Complement = False,
    layers: Layers = "",
    components: Components = "",
    untie: Untie = False,
) -> None:
    """Run one graft, and read how it predicts the target beside both models."""
    patch: dict[str, Any] = {
        "positions": _positions(at, complement),
        "components": _names(components),
    }
    if layers:
        patch["layers"] = _range(layers)
    with session.client() as client:
        found = client.grafting.graft(
            pair={"base": base, "donor": donor},
            case={"prompt": prompt, "target": target},
            patches=[patch],
            untie=untie,
            timeout=600,
        )
    if session.json:
        output.print_json(found)
        return
    marked = ["*" if count else "" for count in found.patches]
    rows: list[tuple[object, ...]] = [
        (n, json.dumps(token, ensure_ascii=False), mark)
        for n, (token, mark) in enumerate(zip(found.tokens, marked, strict=True))
    ]
    output.print_table([">position", "token", "grafted"], rows)
    readings = (("base", found.base), ("graft", found.reading), ("donor", found.donor))
    output.print_table(
        ["pass", ">log-probability", ">probability", ">rank", ">recovery", "most probable"],
        [(name, *_figures(reading)) for name, reading in readings],
    )


def sweep(
    session: Session,
    base: Base,
    donor: Donor,
    prompt: Prompts,
    target: Targets,
    at: At = None,
    window: Window = 0,
    stride: Stride = 0,
    components: Sets = None,
    subsets: Subsets = False,
    preview: Preview = False,
    preview_first: PreviewFirst = False,
    verify_top: VerifyTop = 0,
    verify_random: VerifyRandom = 0,
    seed: Seed = 0,
    steps: Steps = 0,
    own_layer: OwnLayer = False,
    drops: Drops = 0,
    sufficient: Sufficient = None,
    untie: Untie = False,
    out: Out = None,
    wait: Wait = True,
) -> None:
    """Graft every token (or each --at) with every window of layers, as a job; show the cells that recover most.

    Without --wait or when interrupted, `palimpsest jobs watch` comes back to the job.
    """
    axes = {
        "positions": [{"name": where, "positions": _positions([where], False)} for where in at or ()],
        "window": window,
        "stride": stride,
        "components": [{"components": _names(names)} for names in components or ()],
        "subsets": subsets,
    }
    more = estimating(
        preview, preview_first, verify_top, verify_random, seed, steps, own_layer, drops, sufficient
    )
    with session.client() as client:
        job = client.grafting.sweep_grafts(
            pair={"base": base, "donor": donor},
            cases=cases_of(prompt, target),
            axes=axes,
            untie=untie,
            **more,
        )
        if not wait:
            session.show(client.jobs.get(job.name))
            return
        done = follow(job, "Grafting")
        data = client.artifacts.read_bytes(done.table.digest)
    if out is not None:
        out.write_bytes(data)
        output.note(f"Wrote {out}.")
    table = json_input.decode(data, max_bytes=_TABLE_BYTES)
    if session.json:
        output.print_json(table)
    else:
        show(table, done)


def _positions(at: list[str] | None, complement: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"complement": complement, "spans": [], "indices": []}
    for where in at or ["all"]:
        text, hash_, number = where.rpartition("#")
        if where == "all":
            found["everything"] = True
        elif where.lstrip("-").isdecimal():
            found["indices"].append(int(where))
        elif hash_ and text and number.isdecimal():
            found["spans"].append({"text": text, "occurrence": int(number)})
        else:
            found["spans"].append({"text": where})
    return found


def _names(components: str) -> list[str]:
    return [name.strip() for name in components.split(",") if name.strip()]


def _range(layers: str) -> dict[str, int]:
    first, colon, stop = layers.partition(":")
    if not colon or not (first + stop).isdecimal():
        raise typer.BadParameter(
            f"{layers!r} is no window; write FIRST:STOP, such as 15:30.", param_hint="--layers"
        )
    return {"first": int(first or 0), "stop": int(stop or 0)}


def _figures(reading: pb.GraftReading) -> tuple[str, ...]:
    recovery = f"{reading.recovery:.3f}" if reading.HasField("recovery") else ""
    return (
        f"{reading.logprob:.4f}",
        f"{reading.probability:.4g}",
        str(reading.rank),
        recovery,
        json.dumps(reading.top, ensure_ascii=False),
    )


for _command in (check, run, sweep):
    command(app)(_command)
