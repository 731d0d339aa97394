"""Lists of jobs: filters, pages, and page tokens that are valid for their own query only."""

import base64
import hashlib
import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from palimpsest import json_input
from palimpsest.errors import InvalidArgument, Reason

if TYPE_CHECKING:
    from palimpsest.jobs.record import JobRecord

DEFAULT_PAGE = 100
LARGEST_PAGE = 1000
_LONGEST_TOKEN = 1 << 10
_STATES = ("QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED")
_TERM = re.compile(r'\s*(\w+)\s*=\s*"?([\w.]+)"?\s*', re.ASCII)


@dataclass(frozen=True, slots=True)
class Query:
    """Which jobs, how many, older than which (0: from the newest), and whose (None: everybody's)."""

    state: str = ""
    kind: str = ""
    page_size: int = DEFAULT_PAGE
    before: int = 0
    principal: str | None = None


class Page(NamedTuple):
    """Records, newest first, and the token for the next page; empty on the last."""

    records: "list[JobRecord]"
    next_page_token: str


def parse_query(
    filter_text: str = "", page_size: int = 0, page_token: str = "", principal: str | None = None
) -> Query:
    """Return the query in a List request.

    Parameters
    ----------
    filter_text
        ``state=RUNNING``, ``kind=decoding.generate_batch``, or both joined by ``AND``.
    page_size
        0 for 100; more than 1000 is taken as 1000.
    page_token
        From the page before, of the same filter and principal.
    principal
        List this principal's jobs only; None: everybody's.

    Raises
    ------
    InvalidArgument
        The filter is not of that form, the size is negative, or the token belongs to another query.
    """
    if page_size < 0:
        raise InvalidArgument.field(Reason.INVALID_REQUEST, "page_size", "must not be negative.")
    terms: dict[str, str] = {}
    for part in re.split(r"\sAND\s", filter_text) if filter_text.strip() else ():
        match = _TERM.fullmatch(part)
        if match is None or match[1] not in ("state", "kind") or match[1] in terms:
            raise InvalidArgument.field(
                Reason.INVALID_REQUEST,
                "filter",
                "must be 'state=<STATE>', 'kind=<room.verb>', or both joined by AND.",
            )
        terms[match[1]] = match[2]
    state = terms.get("state", "").removeprefix("JOB_STATE_")
    if "state" in terms and state not in _STATES:
        raise InvalidArgument.field(
            Reason.INVALID_REQUEST, "filter", f"state must be one of {', '.join(_STATES)}."
        )
    size = min(page_size or DEFAULT_PAGE, LARGEST_PAGE)
    query = Query(state, terms.get("kind", ""), size, principal=principal)
    return replace(query, before=_decode_token(query, page_token)) if page_token else query


def encode_token(query: Query, last_seq: int) -> str:
    """Return the token of the page after the one that ended with last_seq."""
    return base64.urlsafe_b64encode(json.dumps([_fingerprint(query), last_seq]).encode()).decode()


def _decode_token(query: Query, token: str) -> int:
    try:
        data = base64.b64decode(token, altchars=b"-_", validate=True)
        fingerprint, seq = json_input.decode(data, max_bytes=_LONGEST_TOKEN)
        if fingerprint == _fingerprint(query) and type(seq) is int and 0 < seq < 1 << 53:
            return seq
    except (ValueError, TypeError):
        pass  # whatever is wrong with it, the answer is the same
    raise InvalidArgument.field(
        Reason.PAGE_TOKEN_INVALID,
        "page_token",
        "is not from a page of this query; start again without a token, and keep the filter the same.",
    )


def _fingerprint(query: Query) -> str:
    return hashlib.sha256(f"jobs\0{query.state}\0{query.kind}\0{query.principal}".encode()).hexdigest()[:16]
