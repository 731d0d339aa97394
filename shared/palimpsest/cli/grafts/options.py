"""Options of commands that graft: where, whose weights, and how much of them."""

from typing import Annotated, Any

import typer

from palimpsest.api.grafting.v1 import grafting_pb2 as pb

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
        help="A text of the prompt (TEXT#2: the second one), a token's number (-1: the last), all, or in a chat "
        "role:ROLE[:NUMBER][:PART], such as role:user:-1:last or role:generation. Repeatable.",
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
Chat = Annotated[bool, typer.Option("--chat", help="The prompt is a user's message to a chat model.")]
System = Annotated[str, typer.Option("--system", help="System message; implies --chat.")]
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


_PARTS = {
    "content": pb.ROLE_PART_CONTENT,
    "header": pb.ROLE_PART_HEADER,
    "footer": pb.ROLE_PART_FOOTER,
    "whole": pb.ROLE_PART_WHOLE,
    "last": pb.ROLE_PART_LAST,
}


def text_of(prompt: str, chat: bool, system: str) -> dict[str, Any]:
    """Return a prompt, or the chat in which it is a user's message."""
    if not (chat or system):
        return {"prompt": prompt}
    before = [{"role": "system", "content": system}] if system else []
    return {"chat": [*before, {"role": "user", "content": prompt}]}


def role_of(where: str) -> dict[str, Any]:
    """Read a role of a chat."""
    _, role, *more = where.split(":")
    found: dict[str, Any] = {"role": role}
    if more and more[0].lstrip("-").isdecimal():
        found["message"] = int(more.pop(0))
    if more and more[0] in _PARTS:
        found["part"] = _PARTS[more.pop(0)]
    if more:
        raise typer.BadParameter(
            f"{where!r} is no role; write role:ROLE[:NUMBER][:PART] with one of {', '.join(_PARTS)}.",
            param_hint="--at",
        )
    return found


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
    found: dict[str, Any] = {"complement": complement, "spans": [], "indices": [], "roles": []}
    for where in at or ["all"]:
        text, hash_, number = where.rpartition("#")
        if where == "all":
            found["everything"] = True
        elif where.startswith("role:"):
            found["roles"].append(role_of(where))
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
