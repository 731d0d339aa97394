"""``palimpsest graft generate`` and ``graft plan``."""

from typing import Annotated

import typer

from palimpsest.api.grafting.v1 import grafting_pb2 as pb
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
from palimpsest.cli.grafts.sweep import Contrasts, Sources, axes_of, cases_of
from palimpsest.cli.output import printing as output
from palimpsest.cli.session import Session

_DECODING = {
    "last": pb.GRAFT_DECODING_LAST,
    "base": pb.GRAFT_DECODING_BASE,
    "donor": pb.GRAFT_DECODING_DONOR,
}


def generate(
    session: Session,
    base: Base,
    donor: Donor,
    prompt: Prompt,
    at: At = None,
    complement: Complement = False,
    layers: Layers = "",
    components: Components = "",
    untie: Untie = False,
    other: Others = None,
    source: Source = 0,
    weight: Weight = 1.0,
    chat: Chat = False,
    system: System = "",
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, max=512, help="Tokens at most.")] = 32,
    decoding: Annotated[
        str,
        typer.Option(
            help="Whose weights act on generated tokens: last (as on the prompt's last), base, donor."
        ),
    ] = "last",
) -> None:
    """Generate greedily after a grafted prompt."""
    if decoding not in _DECODING:
        raise typer.BadParameter(f"Choose one of {', '.join(_DECODING)}.", param_hint="--decoding")
    with session.client() as client:
        tokens = client.grafting.generate_grafted(
            pair=pair_of(base, donor, other),
            **text_of(prompt, chat, system),
            patches=[patch_of(at, complement, layers, components, source, weight)],
            untie=untie,
            max_new_tokens=max_tokens,
            decoding=_DECODING[decoding],
            timeout=600,
        )
        for token in tokens:
            if session.json:
                output.print_json(token)
            else:
                typer.echo(token.text, nl=False)
    if not session.json:
        typer.echo()


def plan(
    session: Session,
    base: Base,
    donor: Donor,
    prompt: Prompt,
    target: Target,
    at: At = None,
    window: Annotated[int, typer.Option("--window", min=0, help="Layers of a cell; 0 for 1.")] = 0,
    stride: Annotated[int, typer.Option("--stride", min=0, help="Layers between windows; 0: its size.")] = 0,
    components: Annotated[
        list[str] | None,
        typer.Option("--components", metavar="NAMES", help="A set of components, with commas. Repeatable."),
    ] = None,
    untie: Untie = False,
    other: Others = None,
    source: Sources = None,
    contrast: Contrasts = None,
    chat: Chat = False,
    system: System = "",
) -> None:
    """Say what `graft sweep` with the same options would cost, and run nothing."""
    with session.client() as client:
        found = client.grafting.plan_grafts(
            pair=pair_of(base, donor, other),
            cases=cases_of([prompt], [target], contrast, chat, system),
            axes=axes_of(at, window, stride, components, source),
            untie=untie,
        )
    if session.json:
        output.print_json(found)
        return
    output.print_fields(
        {
            "cells": f"{found.cells} in {found.batches} batches",
            "row-layers": f"{found.row_layers}, of {found.naive_row_layers} of a pass for each cell",
            "memory": f"{found.weight_bytes / 1e9:.2f} GB of weights, {found.batch_bytes / 1e9:.2f} GB beside them",
        }
    )
