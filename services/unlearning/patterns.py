"""The byte sequences that a text may be stored as: itself, escaped, base64, UTF-16, hexadecimal."""

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from palimpsest.errors import InvalidArgument, Reason

SHORTEST = 8
"""Bytes of the shortest text that is searched for: anything shorter is found by chance."""
_ESCAPED = re.compile(r"\\u[0-9a-f]{4}")


@dataclass(frozen=True)
class Pattern:
    """One byte sequence: which secret it stands for, by number, and in what form."""

    data: bytes
    secret: int
    form: str


class Secrets:
    r"""Texts that should be nowhere, as patterns to search for.

    The forms are UTF-8, JSON strings (escaped once and twice, with and without ``\u`` escapes), base64 in both
    alphabets at each of its three alignments and without line breaks, UTF-16 in both byte orders, and hexadecimal in
    both cases. A text that is split, encrypted, compressed within other data or stored as token ids has none of them;
    for token ids give their bytes in ``more``.

    Parameters
    ----------
    texts
        Each of at least 8 bytes; shorter ones are refused.
    more
        Further forms, by name, of each text: ``[{"uint32 tokens": b"..."}, ...]``.

    Raises
    ------
    InvalidArgument
        INVALID_REQUEST: a text is too short, or there is none.
    """

    def __init__(self, texts: Sequence[str], more: Sequence[Mapping[str, bytes]] = ()) -> None:
        found: dict[bytes, Pattern] = {}
        for secret, text in enumerate(texts):
            forms = [*_forms(text), *(more[secret].items() if secret < len(more) else ())]
            for form, data in forms:
                if len(data) < SHORTEST:
                    raise InvalidArgument.field(
                        Reason.INVALID_REQUEST,
                        f"secrets[{secret}]",
                        f"has {len(data)} bytes as {form}, and would be found by chance; give {SHORTEST} at least",
                    )
                found.setdefault(data, Pattern(data, secret, form))
        if not found:
            raise InvalidArgument.field(Reason.INVALID_REQUEST, "secrets", "name the texts to search for")
        self.patterns = tuple(found.values())
        self.longest = max(map(len, found))

    def __repr__(self) -> str:
        return f"Secrets({len(self.patterns)} patterns)"

    def within(self, data: bytes) -> bool:
        """Return whether any pattern occurs in the bytes."""
        return any(pattern.data in data for pattern in self.patterns)


def _forms(text: str) -> Iterator[tuple[str, bytes]]:
    plain = text.encode()
    yield "text", plain
    for escaped in _json_forms(text):
        yield "JSON string", escaped.encode()
        yield "JSON string in JSON", json.dumps(escaped, ensure_ascii=False)[1:-1].encode()
    for byte_order in ("utf-16-le", "utf-16-be"):
        yield byte_order.upper(), text.encode(byte_order)
    yield "hexadecimal", plain.hex().encode()
    yield "hexadecimal", plain.hex().upper().encode()
    for alignment in range(3):
        yield f"base64, alignment {alignment}", (standard := _base64(plain, alignment))
        yield f"base64url, alignment {alignment}", standard.translate(bytes.maketrans(b"+/", b"-_"))


def _json_forms(text: str) -> Iterator[str]:
    escaped = json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield escaped
    yield _ESCAPED.sub(lambda found: "\\u" + found[0][2:].upper(), escaped)


def _base64(data: bytes, alignment: int) -> bytes:
    """Return the base64 digits that depend on the data alone, where it begins at a byte 0, 1 or 2 of a group of 3.

    Each digit holds 6 bits: the first and the last that share bits with what is around are left out.
    """
    digits = base64.b64encode(bytes(alignment) + data + bytes(2))
    first = -(-8 * alignment // 6)
    return digits[first : 8 * (alignment + len(data)) // 6]
