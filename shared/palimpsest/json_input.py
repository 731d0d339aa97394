"""JSON from outside: decoded within limits, so that whatever is wrong with it is one kind of error and nothing more.

The standard library's decoder gives a ``RecursionError`` for deep nesting, integers that fit no field, half surrogate
pairs that no file takes, and one of two equal keys; each goes wrong much later, where nobody expects it. What we have
written ourselves (records in Redis, sidecars of artefacts, manifests) needs none of this.
"""

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

MAX_DEPTH = 64
"""Most arrays and objects within each other; what walks a decoded value may recurse."""
MAX_VALUES = 10_000_000
"""Most values; each takes up to a hundred bytes of memory, and two or three of text."""
MAX_DIGITS = 300
"""Most digits of an integer that is not strictly decoded: it still fits a float."""

_TOO_DEEP = f"it is nested more than {MAX_DEPTH} levels deep"
_INTEGERS = range(-(1 << 63), 1 << 64)
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class InvalidJson(ValueError):
    """The text is not JSON, or not within the limits; the message says what is wrong and where.

    Attributes
    ----------
    problem
        The message without anything of the text: for texts that nobody may find in an error or a log, such as those
        that are to be forgotten.
    """

    def __init__(self, message: str, problem: str = "") -> None:
        super().__init__(message)
        self.problem = problem or message


class JsonOutOfLimits(InvalidJson):
    """The text is or may be JSON, but not within the limits."""


def decode(data: bytes | str, *, max_bytes: int, strict: bool = True) -> Any:
    """Decode a JSON text; anything after it but white space is an error.

    Parameters
    ----------
    data
        UTF-8, with or without a byte order mark.
    max_bytes
        Length of the longest text that is decoded, in bytes.
    strict
        Integers fit 64 bits, numbers are finite, and no object has a key twice. False for the files of models, which
        other libraries write and read: ``Infinity`` and ``1000000000000000019884624838656`` are usual there, and
        the last of equal keys counts.

    Raises
    ------
    JsonOutOfLimits
        It is too long or too deep, or holds too many values, half of a surrogate pair or a number out of range.
    InvalidJson
        It is not JSON.
    """
    text = _text(data, max_bytes)
    if sum(map(text.count, ",[{")) > MAX_VALUES:
        outside = _STRING.sub("", text)
        if sum(map(outside.count, ",[{")) > MAX_VALUES:
            raise JsonOutOfLimits(f"it holds more than {MAX_VALUES} values")
    try:
        value = (_STRICT if strict else _LENIENT).decode(text)
    except RecursionError:
        raise JsonOutOfLimits(_TOO_DEEP) from None
    except json.JSONDecodeError as error:
        raise InvalidJson(str(error)) from None  # fixed words and a position
    _check_depth(value)
    if _SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = ascii(error.object[error.start])
            problem = "it holds half of a surrogate pair"
            raise JsonOutOfLimits(f"it holds {half}, half of a surrogate pair", problem) from None
    return value


def read(path: Path, *, max_bytes: int, strict: bool = True) -> Any:
    """Decode a file; see ``decode``.

    Raises
    ------
    InvalidJson
        As ``decode``.
    OSError
        The file cannot be read.
    """
    with path.open("rb") as file:
        return decode(file.read(max_bytes + 1), max_bytes=max_bytes, strict=strict)


def _text(data: bytes | str, max_bytes: int) -> str:
    try:
        encoded = data.encode() if isinstance(data, str) else data
        if len(encoded) > max_bytes:
            raise JsonOutOfLimits(f"it is longer than {max_bytes} bytes")
        return encoded.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidJson(f"it is not UTF-8 at byte {error.start}") from None
    except UnicodeEncodeError as error:
        raise JsonOutOfLimits(f"it holds half of a surrogate pair at character {error.start}") from None


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [each for each in level if isinstance(each, dict | list)]
        if not level:
            return
        level = [child for each in level for child in (each.values() if isinstance(each, dict) else each)]
    raise JsonOutOfLimits(_TOO_DEEP)


def _integer(digits: str) -> int:
    if len(digits) <= 20 and (value := int(digits)) in _INTEGERS:
        return value
    raise JsonOutOfLimits(
        f"the integer {_shortened(digits)} does not fit 64 bits", "an integer does not fit 64 bits"
    )


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isfinite(value):
        return value
    raise JsonOutOfLimits(f"the number {_shortened(digits)} is too large", "a number is too large")


def _constant(name: str) -> NoReturn:
    raise InvalidJson(f"{name} is not a number of JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise JsonOutOfLimits(
            f"an object has the key {_shortened(twice)!r} twice", "an object has a key twice"
        )
    return value


def _wide_integer(digits: str) -> int:
    if len(digits) <= MAX_DIGITS:
        return int(digits)
    raise JsonOutOfLimits(
        f"the integer {_shortened(digits)} has more than {MAX_DIGITS} digits",
        f"an integer has more than {MAX_DIGITS} digits",
    )


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}…"


_STRICT = json.JSONDecoder(
    parse_int=_integer, parse_float=_finite, parse_constant=_constant, object_pairs_hook=_object
)
_LENIENT = json.JSONDecoder(parse_int=_wide_integer)
