"""``palimpsest config show``: every setting, its value and where that came from."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit, urlunsplit

import typer

from palimpsest.cli.output import printing as output
from palimpsest.cli.output.exits import table
from palimpsest.settings import Settings

app = typer.Typer(help="Settings: what they are and where they come from.", no_args_is_help=True)

_SECRET_WORDS = ("key", "secret", "token", "password")
_MASK = "***"


@app.callback()
def _group() -> None: ...


@app.command(epilog=table())
def show(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """Show every setting, its value and its origin; secrets are masked."""
    rows = described(Settings(), os.environ)
    if as_json:
        output.print_json(rows)
    else:
        output.print_table(
            ["setting", "value", "origin", "what it is"],
            [(row["variable"], _text(row["value"]), row["origin"], row["description"]) for row in rows],
        )


def described(settings: Settings, environment: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return name, variable, value, origin and description of every setting, secrets masked."""
    present = {name.upper() for name in environment}
    rows = []
    for name, field in type(settings).model_fields.items():
        variable = f"PALIMPSEST_{name.upper()}"
        rows.append(
            {
                "name": name,
                "variable": variable,
                "value": masked(name, getattr(settings, name)),
                "origin": "environment" if variable in present else "default",
                "description": field.description or "",
            }
        )
    return rows


def masked(name: str, value: Any) -> Any:
    """Return a value fit to be shown: passwords in URLs and secrets in options replaced."""
    if isinstance(value, Mapping):
        return {key: masked(str(key), item) for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list):
        return [masked(name, item) for item in value]
    if isinstance(value, str) and value:
        if any(word in name.lower() for word in _SECRET_WORDS):
            return _MASK
        parts = urlsplit(value)
        if parts.password:
            host = parts.netloc.rpartition("@")[2]
            return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:{_MASK}@{host}"))
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
