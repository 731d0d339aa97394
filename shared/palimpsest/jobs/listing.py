"""Lists of jobs: filters, pages, and page tokens that only fit the query they came from."""

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from palimpsest.errors import InvalidArgument, Reason

if TYPE_CHECKING:
    from palimpsest.jobs.record import JobRecord

DEFAULT_PAGE = 100
LARGEST_PAGE = 1000
_STATES = ("QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED")
_TERM = re.compile(r'\s*(\w+)\s*=\s*"?([\w.]+)"?\s*', re.ASCII)


@dataclass(frozen=True, slots=True)
class Query:
    """Which jobs, how many, and older than which (0: from the newest)."""

    state: str = ""
    kind: str = ""
    page_size: int = DEFAULT_PAGE
    before: int = 0


class Page(NamedTuple):
    """Records, newest first, and the token for the next page; empty on the last."""

    records: "list[JobRecord]"
    next_page_token: str


def parse_query(filter_text: str = "", page_size: int = 0, page_token: str = "") -> Query:
    """Read what a List request asks for.

    Parameters
    ----------
    filter_text
        ``state=RUNNING``, ``kind=decoding.generate_batch``, or both joined by ``AND``.
    page_size
        0 for 100; more than 1000 is taken as 1000.
    page_token
        From the page before, of the same filter.

    Raises
    ------
    InvalidArgument
        The filter is not of that form, the size is negative, or the token is not from this query.
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
    query = Query(state, terms.get("kind", ""), min(page_size or DEFAULT_PAGE, LARGEST_PAGE))
    if not page_token:
        return query
    return Query(query.state, query.kind, query.page_size, _decode_token(query, page_token))


def encode_token(query: Query, last_seq: int) -> str:
    """Return the token of the page after the one that ended with last_seq."""
    return base64.urlsafe_b64encode(json.dumps([_fingerprint(query), last_seq]).encode()).decode()


def _decode_token(query: Query, token: str) -> int:
    try:
        fingerprint, seq = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
        if fingerprint == _fingerprint(query) and isinstance(seq, int) and 0 < seq < 1 << 53:
            return seq
    except (binascii.Error, ValueError, TypeError, RecursionError):
        pass  # whatever is wrong with it, the answer is the same
    raise InvalidArgument.field(
        Reason.PAGE_TOKEN_INVALID,
        "page_token",
        "is not from a page of this query; start again without a token, and keep the filter the same.",
    )


def _fingerprint(query: Query) -> str:
    return hashlib.sha256(f"jobs\0{query.state}\0{query.kind}".encode()).hexdigest()[:16]
