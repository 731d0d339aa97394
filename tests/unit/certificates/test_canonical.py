"""Canonical JSON: one text for one value, and nothing that has no such text."""

import json
from decimal import Decimal
from enum import IntEnum, StrEnum

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palimpsest.certificates.canonical import LARGEST_INTEGER, canonical, decimal_text, digest, parse
from palimpsest.errors import InvalidArgument, Reason

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-LARGEST_INTEGER, LARGEST_INTEGER) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


class Kind(StrEnum):
    A = "a"


class Number(IntEnum):
    ONE = 1


def shuffled(value, turn):
    if isinstance(value, dict):
        items = [(key, shuffled(inner, turn)) for key, inner in value.items()]
        return dict(items[turn % (len(items) or 1) :] + items[: turn % (len(items) or 1)])
    return [shuffled(inner, turn) for inner in value] if isinstance(value, list) else value


@settings(derandomize=True)
@given(value=VALUES, turn=st.integers(1, 3))
def test_a_value_has_one_text_that_gives_it_back(value, turn):
    data = canonical(value)
    assert parse(data) == value
    assert json.loads(data) == value
    assert canonical(shuffled(value, turn)) == data


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [True, None, -5]}, '{"a":[true,null,-5],"b":1}'),
        # The example of sorting in RFC 8785, 3.2.3: by UTF-16 units, so an emoji comes before U+FB33.
        (
            {
                "\u20ac": "Euro Sign",
                "\r": "Carriage Return",
                "\ufb33": "Hebrew Letter Dalet With Dagesh",
                "1": "One",
                "\U0001f600": "Emoji: Grinning Face",
                "\u0080": "Control",
                "\u00f6": "Latin Small Letter O With Diaeresis",
            },
            '{"\\r":"Carriage Return","1":"One","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis",'
            '"\u20ac":"Euro Sign","\U0001f600":"Emoji: Grinning Face","\ufb33":"Hebrew Letter Dalet With Dagesh"}',
        ),
        # The string of RFC 8785, 3.2.2.2.
        ('\u20ac$\u000f\nA\'B"\\\\"/', '"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'),
        ("\x7f\u2028", '"\x7f\u2028"'),
    ],
)
def test_known_texts(value, text):
    assert canonical(value).decode() == text


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        {"a": [0.5]},
        float("nan"),
        LARGEST_INTEGER + 1,
        -LARGEST_INTEGER - 1,
        {1: "a"},
        {"a": {2}},
        b"bytes",
        Decimal(1),
        "\ud800",
        {"\udfff": 1},
        Kind.A,
        Number.ONE,
        np.int64(1),
        nested(70),
    ],
    ids=str,
)
def test_values_without_a_canonical_text_are_refused(value):
    with pytest.raises(InvalidArgument) as refused:
        canonical(value)
    assert refused.value.reason == Reason.NOT_CANONICAL


def test_the_message_names_the_place_and_not_the_value():
    with pytest.raises(InvalidArgument, match=r"^a\.b\[1\] is a float"):
        canonical({"a": {"b": [1, 0.12345]}})


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1}',
        '{"b":1,"a":2}',
        '{"a":1,"a":1}',
        "1.0",
        "1e3",
        "-0",
        '"\\u0041"',
        '"\\/"',
        '"\\u000F"',
        "[1,]",
        "[1] ",
        "\ufeff1",
        "9007199254740992",
        "NaN",
        "",
    ],
)
def test_other_texts_are_refused(text):
    with pytest.raises(InvalidArgument) as refused:
        parse(text.encode())
    assert refused.value.reason == Reason.NOT_CANONICAL


@settings(derandomize=True)
@given(number=st.floats(allow_nan=False, allow_infinity=False))
def test_decimal_texts_keep_every_float(number):
    text = decimal_text(number)
    assert float(text) == number
    assert "e" not in text.lower()
    assert text not in ("-0", "")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.1, "0.1"),
        (-0.0, "0"),
        (100.0, "100"),
        (1e-7, "0.0000001"),
        (1e22, "10000000000000000000000"),
        (Decimal("1.500"), "1.5"),
        (Decimal("1E+3"), "1000"),
        (Decimal("-0.00"), "0"),
        (7, "7"),
        (np.float64(0.25), "0.25"),
        (np.float32(0.5), "0.5"),
    ],
)
def test_known_decimal_texts(number, text):
    assert decimal_text(number) == text


@pytest.mark.parametrize("number", [float("nan"), float("inf"), Decimal("-Infinity")])
def test_what_is_no_number_has_no_decimal_text(number):
    with pytest.raises(InvalidArgument):
        decimal_text(number)


def test_digests():
    # FIPS 180-2, appendix B.1
    assert digest(b"abc") == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
