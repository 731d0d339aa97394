"""Options of commands that graft: where, whose weights, and how much of them."""

from typing import Annotated, Any

import typer

Base = Annotated[str, typer.Argument(metavar="BASE", help="Model whose weights act elsewhere.")]
Donor = Annotated[
    str,
    typer.Argument(
        metavar="DONOR", help="Model whose weights are grafted, or an adapter by its digest (sha256:…)."
    ),
]
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
Others = Annotated[
    list[str] | None,
    typer.Option("--other", metavar="MODEL", help="A further donor, for --source 1 and 2. At most two."),
]
Source = Annotated[
    int, typer.Option("--source", min=0, max=2, help="Whose weights act: 0 DONOR's, 1 the first --other's.")
]
Weight = Annotated[
    float,
    typer.Option("--weight", min=-4.0, max=4.0, help="How much of the change acts: 0 none, 2 twice as much."),
]


def pair_of(base: str, donor: str, others: list[str] | None) -> dict[str, Any]:
    """Return a pair, with further donors."""
    return {"base": base, "donor": donor, "others": others or []}


def patch_of(
    at: list[str] | None, complement: bool, layers: str, components: str, source: int, weight: float
) -> dict[str, Any]:
    """Return the one patch that a command's options describe."""
    patch: dict[str, Any] = {
        "positions": positions_of(at, complement),
        "components": names_of(components),
        "source": source,
        "weight": weight,
    }
    if layers:
        patch["layers"] = range_of(layers)
    return patch


def positions_of(at: list[str] | None, complement: bool) -> dict[str, Any]:
    """Read places; none are all."""
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


def names_of(components: str) -> list[str]:
    """Read names with commas between them."""
    return [name.strip() for name in components.split(",") if name.strip()]


def range_of(layers: str) -> dict[str, int]:
    """Read a window of layers."""
    first, colon, stop = layers.partition(":")
    if not colon or not (first + stop).isdecimal():
        raise typer.BadParameter(
            f"{layers!r} is no window; write FIRST:STOP, such as 15:30.", param_hint="--layers"
        )
    return {"first": int(first or 0), "stop": int(stop or 0)}
