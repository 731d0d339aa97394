"""``palimpsest graft``: where a fine-tuned fact lives, by a donor's weights in a base model's pass."""

import json
from pathlib import Path
from typing import Annotated

import typer

from palimpsest import json_input
from palimpsest.api.grafting.v1 import grafting_pb2 as pb
from palimpsest.cli.grafts.generate import generate, plan
from palimpsest.cli.grafts.options import (
    At,
    Base,
    Chat,
    Complement,
    Components,
    Donor,
    Layers,
    Others,
    Prompt,
    Source,
    System,
    Target,
    Untie,
    Weight,
    pair_of,
    patch_of,
    text_of,
)
from palimpsest.cli.grafts.report import report
from palimpsest.cli.grafts.sweep import (
    Contrasts,
    Drops,
    OwnLayer,
    Preview,
    PreviewFirst,
    Prompts,
    Seed,
    Sources,
    Steps,
    Subsets,
    Sufficient,
    Targets,
    VerifyRandom,
    VerifyTop,
    axes_of,
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

Contrast = Annotated[
    str, typer.Option("--contrast", help="Another continuation to read too, such as the answer before.")
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
    heads = [">layer", "component", ">relative change"]
    rows = [(c.layer if c.layer >= 0 else "", c.component, f"{c.relative_norm:.2g}") for c in most]
    if any(change.HasField("quantisation_norm") for change in most):
        heads.append(">of it by rounding")
        rows = [(*row, _rounding(c)) for row, c in zip(rows, most, strict=True)]
    output.print_table(heads, rows)
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
    other: Others = None,
    source: Source = 0,
    weight: Weight = 1.0,
    contrast: Contrast = "",
    chat: Chat = False,
    system: System = "",
) -> None:
    """Run one graft, and read how it predicts the target beside both models."""
    with session.client() as client:
        found = client.grafting.graft(
            pair=pair_of(base, donor, other),
            case={**text_of(prompt, chat, system), "target": target},
            patches=[patch_of(at, complement, layers, components, source, weight)],
            untie=untie,
            contrast=contrast,
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
    if found.HasField("contrast"):
        old = found.contrast
        parts = (
            ("base", old.base, old.base_margin),
            ("graft", old.reading, old.margin),
            ("donor", old.donor, old.donor_margin),
        )
        output.print_table(
            ["pass", ">contrast's log-probability", ">rank", ">target ahead by (nats)"],
            [(name, f"{r.logprob:.4f}", r.rank, f"{margin:.4f}") for name, r, margin in parts],
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
    other: Others = None,
    source: Sources = None,
    contrast: Contrasts = None,
    chat: Chat = False,
    system: System = "",
    out: Out = None,
    wait: Wait = True,
) -> None:
    """Graft every token (or each --at) with every window of layers, as a job; show the cells that recover most.

    Without --wait or when interrupted, `palimpsest jobs watch` comes back to the job.
    """
    more = estimating(
        preview, preview_first, verify_top, verify_random, seed, steps, own_layer, drops, sufficient
    )
    with session.client() as client:
        job = client.grafting.sweep_grafts(
            pair=pair_of(base, donor, other),
            cases=cases_of(prompt, target, contrast, chat, system),
            axes=axes_of(at, window, stride, components, source, subsets),
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


def _rounding(change: pb.ComponentChange) -> str:
    """How large a change rounding alone makes, beside the whole one."""
    if not change.HasField("quantisation_norm"):
        return ""
    return f"{change.quantisation_norm / change.delta_norm:.0%}"


def _figures(reading: pb.GraftReading) -> tuple[str, ...]:
    recovery = f"{reading.recovery:.3f}" if reading.HasField("recovery") else ""
    return (
        f"{reading.logprob:.4f}",
        f"{reading.probability:.4g}",
        str(reading.rank),
        recovery,
        json.dumps(reading.top, ensure_ascii=False),
    )


for _command in (check, run, generate, plan, sweep, report):
    command(app)(_command)
