"""JSON from outside is decoded as the standard library decodes it, or refused with one kind of error."""

import contextlib
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palimpsest.json_input import MAX_DEPTH, MAX_VALUES, InvalidJson, decode, read

LIMIT = 1 << 20
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def nested(depth, brackets="[]"):
    opening, closing = brackets
    return opening * depth + closing * depth


@given(VALUES, st.booleans(), st.booleans())
def test_what_is_within_the_limits_is_decoded_as_it_was_written(value, ascii_only, strict):
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert decode(text, max_bytes=LIMIT, strict=strict) == value
    assert decode(text.encode(), max_bytes=LIMIT, strict=strict) == value


@given(st.binary(max_size=60), st.booleans())
def test_bytes_are_json_or_refused(data, strict):
    try:
        value = decode(data, max_bytes=LIMIT, strict=strict)
    except InvalidJson:
        return
    assert value == value or "NaN" in str(value) or "nan" in str(value)
    json.dumps(value, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (nested(MAX_DEPTH + 1), "levels deep"),
        (nested(100_000), "levels deep"),
        ('{"a":' * 100_000, "levels deep"),
        ('{"a":' * 65 + "1" + "}" * 65, "levels deep"),
        ("1" * 5000, "integer 1111.* "),
        ('{"a": "\\ud800"}', "surrogate"),
        ('{"\\uDFFF": 1}', "surrogate"),
        ('"\\ud83d\\ud83d\\ude00"', "surrogate"),
        ("\ud800", "surrogate"),
        (b'"\xed\xa0\x80"', "not UTF-8 at byte 1"),
        (b"\xff\xfe[\x00]\x00", "not UTF-8 at byte 0"),
        ('{"a": 1} x', "Extra data"),
        ("", "Expecting value"),
        ("[1,]", "line 1 column"),
        ("x" * (LIMIT + 1), "longer than"),
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_everything_else_is_refused_with_a_reason(text, why, strict):
    with pytest.raises(InvalidJson, match=why):
        decode(text, max_bytes=LIMIT, strict=strict)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("18446744073709551616", "64 bits"),
        ("-9223372036854775809", "64 bits"),
        ("1e999", "too large"),
        ("-1" + "0" * 400 + ".5", "too large"),
        ("NaN", "NaN"),
        ("[-Infinity]", "-Infinity"),
        ('{"a": 1, "b": 2, "a": 3}', "key 'a' twice"),
    ],
)
def test_what_libraries_write_is_decoded_only_where_their_files_are_read(text, why):
    with pytest.raises(InvalidJson, match=why):
        decode(text, max_bytes=LIMIT)
    assert repr(decode(text, max_bytes=LIMIT, strict=False)) == repr(json.loads(text))


def test_the_limits_themselves_are_allowed():
    assert decode(nested(MAX_DEPTH), max_bytes=2 * MAX_DEPTH) == json.loads(nested(MAX_DEPTH))
    assert decode(
        "[18446744073709551615, -9223372036854775808, 1.7976931348623157e308]", max_bytes=LIMIT
    ) == [
        2**64 - 1,
        -(2**63),
        1.7976931348623157e308,
    ]
    assert decode("9" * 300, max_bytes=LIMIT, strict=False) == 10**300 - 1
    assert decode('"\\ud83d\\ude00"', max_bytes=LIMIT) == "😀"
    assert decode(b"\xef\xbb\xbf{}", max_bytes=LIMIT) == {}


def test_values_are_counted_outside_of_strings():
    commas = '"' + "," * (MAX_VALUES + 1) + '"'
    assert len(decode(commas, max_bytes=len(commas))) == MAX_VALUES + 1
    crowd = "[" + "0," * (MAX_VALUES + 1) + "0]"
    with pytest.raises(InvalidJson, match="values"):
        decode(crowd, max_bytes=len(crowd))


def test_a_damaged_text_never_gives_another_error():
    rng = random.Random(7)
    sound = json.dumps({"a": [1, 2.5, {"b": "\ud83d\ude00 text"}], "c": None, "d": True}).encode()
    for _ in range(2000):
        data = bytearray(sound)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        with contextlib.suppress(InvalidJson):
            decode(bytes(data), max_bytes=LIMIT)


def test_a_file_is_read_up_to_its_limit(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": 1}')
    assert read(path, max_bytes=8) == {"a": 1}
    with pytest.raises(InvalidJson, match="longer than 7"):
        read(path, max_bytes=7)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.json", max_bytes=7)
