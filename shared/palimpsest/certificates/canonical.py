"""Canonical JSON: one value, one sequence of bytes, so that a digest or a signature is of the value.

The bytes are those of RFC 8785 (JSON Canonicalization Scheme) for the values that are taken: keys sorted by UTF-16 code
units, no white space, shortest escapes, UTF-8. There are no floats, whose shortest text differs between languages in
practice: numbers are integers that every JSON reader keeps exactly, or decimal strings (``decimal_text``).
"""

import hashlib
import json
from decimal import Decimal
from typing import Any

from palimpsest import json_input
from palimpsest.errors import InvalidArgument, Reason

LARGEST_INTEGER = (1 << 53) - 1
"""Largest magnitude of an integer: beyond it, readers that keep numbers as doubles lose digits (RFC 8785, 3.2.2.3)."""
MAX_BYTES = 1 << 22
"""Longest text that ``parse`` takes by default, in bytes."""


def canonical(value: object) -> bytes:
    """Serialise None, bool, int, str, lists, tuples and dicts with text keys.

    Raises
    ------
    InvalidArgument
        NOT_CANONICAL: a float, an integer of more than 53 bits, half of a surrogate pair, another type, or nesting
        deeper than ``json_input.MAX_DEPTH``. The message names the place and not the value.
    """
    return json.dumps(_ordered(value, "", 0), ensure_ascii=False, separators=(",", ":")).encode()


def parse(data: bytes, *, max_bytes: int = MAX_BYTES) -> Any:
    """Decode canonical JSON; text that is JSON but not canonical is refused.

    Raises
    ------
    InvalidArgument
        NOT_CANONICAL: the bytes are not what ``canonical`` gives for any value.
    """
    try:
        value = json_input.decode(data, max_bytes=max_bytes)
    except json_input.InvalidJson as error:
        raise InvalidArgument(Reason.NOT_CANONICAL, f"This is not canonical JSON: {error}.") from None
    if canonical(value) != data:
        raise InvalidArgument(
            Reason.NOT_CANONICAL,
            "This is JSON, but not its canonical form: white space, the order of keys or escapes differ. Use the file "
            "as it was issued; editors and formatters change it.",
        )
    return value


def digest(data: bytes) -> str:
    """Return ``sha256:<64 hex digits>`` of the bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def decimal_text(number: float | Decimal) -> str:
    """Write a number as a decimal string: no exponent, no trailing zeros, no ``-0``.

    A float gives the shortest digits that read back as the same float. Array scalars are taken as floats.

    Raises
    ------
    InvalidArgument
        NOT_CANONICAL: infinite, or not a number.
    """
    exact = number if isinstance(number, int | Decimal) else repr(float(number))
    value = Decimal(exact)
    if not value.is_finite():
        raise InvalidArgument(
            Reason.NOT_CANONICAL, "Infinity and NaN have no decimal text; leave the value out instead."
        )
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _ordered(value: object, place: str, depth: int) -> object:
    """Return the value with every object's keys in order, having checked all of it."""
    if depth > json_input.MAX_DEPTH:
        raise _refused(place, f"is nested more than {json_input.MAX_DEPTH} levels deep")
    # Exact types: an enumeration or a subclass of int may print as something else.
    kind = type(value)
    if value is None or kind is bool:
        return value
    if isinstance(value, int) and kind is int:
        if abs(value) > LARGEST_INTEGER:
            raise _refused(place, "is an integer of more than 53 bits; write it as a decimal string")
        return value
    if isinstance(value, str) and kind is str:
        return _checked(value, place)
    if isinstance(value, list | tuple):
        return [_ordered(item, f"{place}[{at}]", depth + 1) for at, item in enumerate(value)]
    if isinstance(value, dict):
        for key in value:
            if type(key) is not str:
                raise _refused(place, "has a key that is not text")
            _checked(key, f"{place}: a key")
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        return {key: _ordered(value[key], f"{place}.{key}" if place else key, depth + 1) for key in keys}
    if kind is float:
        raise _refused(place, "is a float; write it as a decimal string, with decimal_text")
    raise _refused(place, f"is of type {kind.__name__}, which canonical JSON does not have")


def _checked(text: str, place: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _refused(place, "holds half of a surrogate pair") from None
    return text


def _refused(place: str, what: str) -> InvalidArgument:
    return InvalidArgument(Reason.NOT_CANONICAL, f"{place or 'The value'} {what}.")
