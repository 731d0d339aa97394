"""Pages of a list of artefacts, newest first."""

import base64
import json
from collections.abc import Iterable

from palimpsest import json_input
from palimpsest.errors import InvalidArgument, Reason

_PAGE_SIZE, _MOST_PER_PAGE = 100, 1000
_LONGEST_TOKEN = 1 << 10


def page_of(times: Iterable[tuple[float, str]], page_size: int, page_token: str) -> tuple[list[str], str]:
    """Return the names of one page, and the token of the next; empty after the last.

    Parameters
    ----------
    times
        When each was stored, and its name.
    page_size
        0: 100; at most 1000.
    page_token
        From the page before.

    Raises
    ------
    InvalidArgument
        PAGE_TOKEN_INVALID.
    """
    size = min(page_size, _MOST_PER_PAGE) if page_size else _PAGE_SIZE
    rows = sorted((-time, name) for time, name in times)
    if page_token:
        after = _read(page_token)
        rows = [row for row in rows if row > after]
    page = rows[:size]
    token = base64.urlsafe_b64encode(json.dumps(page[-1]).encode()).decode() if len(rows) > size else ""
    return [name for _, name in page], token


def _read(token: str) -> tuple[float, str]:
    try:  # not strictly: the age of an artefact may be unknown, which is infinity
        data = base64.b64decode(token, altchars=b"-_", validate=True)
        time, name = json_input.decode(data, max_bytes=_LONGEST_TOKEN, strict=False)
        if not isinstance(time, int | float) or not time <= 0 or not isinstance(name, str):
            raise ValueError
        return float(time), name
    except (ValueError, TypeError):
        message = "This is not a page token of ListArtifacts. Begin again without one."
        raise InvalidArgument.field(Reason.PAGE_TOKEN_INVALID, "page_token", message) from None
