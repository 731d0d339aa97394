"""Principals as parts of Redis keys: what belongs to one is kept apart from what belongs to others."""

from urllib.parse import quote

LOCAL = "local"
"""The principal of every call to a server without a tokens file."""


def quoted(principal: str) -> str:
    """Return a principal's name without ``:`` and ``/``, so that it cannot run into the other parts of a key."""
    return quote(principal, safe="")
