"""Names of removal requests, in full or by the id alone."""

from typing import Annotated

import typer

Name = Annotated[str, typer.Argument(metavar="REQUEST", help="removalRequests/ID, or the ID alone.")]
_PREFIX = "removalRequests/"


def full_name(name: str) -> str:
    """Return the full name of a request."""
    return name if name.startswith(_PREFIX) else _PREFIX + name


def short_name(name: str) -> str:
    """Return the id of a request."""
    return name.removeprefix(_PREFIX)
