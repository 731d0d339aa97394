"""Ids by their first characters, where those belong to one thing alone."""

from collections.abc import Callable, Iterable

from palimpsest.errors import InvalidArgument, Reason

SHORTEST = 4
"""Fewest characters that stand for an id."""
_SHOWN = 5


def completed(given: str, length: int, ids: Callable[[], Iterable[str]]) -> str:
    """Return the one id that begins with what was given; what was given itself, where there is none.

    Parameters
    ----------
    given
        An id, or its first characters.
    length
        Of a whole id: those are not looked up.
    ids
        Lists the ids there are.

    Raises
    ------
    InvalidArgument
        Several ids begin with it; the message names some.
    """
    if not SHORTEST <= len(given) < length:
        return given
    found = [each for each in ids() if each.startswith(given)]
    if len(found) > 1:
        shown = ", ".join(found[:_SHOWN]) + (", …" if len(found) > _SHOWN else "")
        raise InvalidArgument(
            Reason.INVALID_REQUEST, f"{len(found)} ids begin with {given!r}: {shown}. Give more of it."
        )
    return found[0] if found else given
