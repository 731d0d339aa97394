"""Typed records as canonical JSON: strict on the way in, the same bytes on the way out."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from palimpsest.certificates.canonical import LARGEST_INTEGER, MAX_BYTES, canonical, digest, parse
from palimpsest.errors import InvalidArgument, Reason

_TIME = "%Y-%m-%dT%H:%M:%SZ"
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?")
_LONGEST_DECIMAL = 400


def time_text(time: datetime) -> str:
    """Write a time in UTC to the second: ``2026-01-31T12:00:00Z``.

    Raises
    ------
    ValueError
        The time has no time zone.
    """
    if time.tzinfo is None:
        raise ValueError("a time without a time zone")
    return time.astimezone(UTC).strftime(_TIME)


def time_of(text: str) -> datetime:
    """Read what ``time_text`` wrote."""
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)


def _is_time(text: str) -> str:
    try:
        same = time_text(time_of(text)) == text
    except ValueError:
        same = False
    if not same:
        raise ValueError("should be a time such as 2026-01-31T12:00:00Z")
    return text


def _is_decimal(text: str) -> str:
    if len(text) > _LONGEST_DECIMAL or not _DECIMAL.fullmatch(text) or text == "-0":
        raise ValueError("should be a decimal number as text, without exponent or trailing zeros")
    return text


Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
"""``sha256:<64 hex digits>``."""
Name = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,200}$")]
"""An identifier: printable ASCII without spaces, so that no sentence of a text fits."""
Count = Annotated[int, Field(ge=0, le=LARGEST_INTEGER)]
Version = Annotated[int, Field(ge=1, le=1)]
"""Of a file's format: 1. (``Literal[1]`` would take 1.0 as well.)"""
Time = Annotated[str, AfterValidator(_is_time)]
"""UTC to the second; see ``time_text``."""
DecimalText = Annotated[str, AfterValidator(_is_decimal)]
"""A number as ``decimal_text`` writes it."""
Signature = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]
"""An Ed25519 signature in hexadecimal, which has one spelling only; base64 has several."""


class Record(BaseModel):
    """A record of named, typed fields; unknown fields, other types and floats are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    def body(self, *without: str) -> bytes:
        """Return the canonical JSON of the record, less some of its fields: what is hashed and signed."""
        return canonical(self.model_dump(exclude=set(without)))

    def to_bytes(self) -> bytes:
        """Return the record as a file or a line holds it: canonical JSON and a newline."""
        return self.body() + b"\n"

    def fingerprint(self, *without: str) -> str:
        """Return the SHA-256 digest of ``body``."""
        return digest(self.body(*without))

    @classmethod
    def parse(cls, data: bytes, *, max_bytes: int = MAX_BYTES) -> Self:
        """Read what ``to_bytes`` wrote, to the byte.

        Raises
        ------
        InvalidArgument
            NOT_CANONICAL: not canonical JSON and one newline. RECORD_INVALID: fields are missing, unknown or of the
            wrong type or form.
        """
        if not data.endswith(b"\n"):
            raise InvalidArgument(
                Reason.NOT_CANONICAL, "The newline at the end is missing: the file is cut short."
            )
        return cls.of(parse(data[:-1], max_bytes=max_bytes))

    @classmethod
    def of(cls, fields: Any) -> Self:
        """Build a record from plain data.

        Raises
        ------
        InvalidArgument
            RECORD_INVALID, with the fields in the message and not their values.
        """
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            found = "; ".join(f"{_path(each['loc'])}: {each['msg']}" for each in error.errors())
            raise InvalidArgument(Reason.RECORD_INVALID, f"This is no {cls.__name__}: {found}.") from None


def _path(place: tuple[int | str, ...]) -> str:
    return ".".join(map(str, place)) or "the whole"
