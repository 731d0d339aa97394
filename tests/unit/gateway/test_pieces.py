"""Tokens as text, and where they begin."""

import pytest

from services.gateway.text.pieces import Offsets, bytes_before, shown


def offsets(pieces, skipped=0):
    found = Offsets(skipped)
    return [found.next(piece) for piece in pieces]


def test_part_of_a_character_is_shown_by_its_bytes():
    assert shown("é".encode()) == "é"
    assert shown("€".encode()[:2]) == "bytes:\\xe2\\x82"


def test_a_token_begins_where_its_first_character_does():
    assert offsets([b"a", b"bc", b"d"]) == [0, 1, 3]
    euro = "€".encode()
    assert offsets([b"a", euro[:1], euro[1:], b"b"]) == [0, 1, 1, 2]
    assert offsets([b"a" + euro[:2], euro[2:] + b"b", b"c"]) == [0, 1, 3]


@pytest.mark.parametrize(
    ("pieces", "text", "skipped", "begins"),
    [
        ([b"<s>", b"ab", b"c"], "abc", 3, [0, 0, 2]),
        ([b" ab", b"c"], "abc", 1, [0, 2]),
        ([b"ab", b"c"], "abc", 0, [0, 2]),
        ([b"changed"], "text", 0, [0]),
    ],
)
def test_what_a_tokenizer_puts_before_a_prompt_has_no_place_in_it(pieces, text, skipped, begins):
    assert bytes_before(pieces, text) == skipped
    assert offsets(pieces, skipped) == begins
