"""How requests are named on the command line."""

from typing import Annotated

import typer

Name = Annotated[str, typer.Argument(metavar="REQUEST", help="removalRequests/ID, or the ID alone.")]
_PREFIX = "removalRequests/"


def full_name(name: str) -> str:
    """Return the full name of a request."""
    return name if name.startswith(_PREFIX) else _PREFIX + name
