"""``palimpsest config show``: every setting, its value and where that came from."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit, urlunsplit

import typer
from pydantic_settings import BaseSettings

from palimpsest.cli.output import printing as output
from palimpsest.cli.output.exits import table
from palimpsest.settings import ALL_SETTINGS, variable

app = typer.Typer(help="Settings: what they are and where they come from.", no_args_is_help=True)

_SECRET_WORDS = ("key", "secret", "token", "password")
_MASK = "***"


@app.callback()
def _group() -> None: ...


@app.command(epilog=table())
def show(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """Show every setting, its value and its origin; secrets are masked.

    The values are those of this process; a server or worker elsewhere may have others.
    """
    rows = described(os.environ)
    if as_json:
        output.print_json(rows)
    else:
        output.print_table(
            ["setting", "value", "origin", "what it is"],
            [(row["variable"], _text(row["value"]), row["origin"], row["description"]) for row in rows],
        )


def described(environment: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return name, variable, value, origin and description of every setting, secrets masked.

    The origin is "environment", "secret file" (in ``/run/secrets``) or "default".
    """
    present = {name.upper() for name in environment}
    rows = []
    for group in ALL_SETTINGS:
        values = group()
        files = _secret_files(group)
        for name, field in group.model_fields.items():
            found = variable(group, name)
            origin = "environment" if found in present else "secret file" if found in files else "default"
            rows.append(
                {
                    "name": name,
                    "variable": found,
                    "value": masked(name, getattr(values, name)),
                    "origin": origin,
                    "description": field.description or "",
                }
            )
    return rows


def _secret_files(group: type[BaseSettings]) -> set[str]:
    folder = group.model_config.get("secrets_dir")
    return {file.name.upper() for file in Path(str(folder)).iterdir()} if folder else set()


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
