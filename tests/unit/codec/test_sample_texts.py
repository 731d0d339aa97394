"""Texts to calibrate from: plain, or JSONL whose lines are checked."""

import json

import pytest

from palimpsest.errors import InvalidArgument, Reason
from services.codec.calibration import _sources


def test_jsonl_gives_its_texts():
    lines = [{"text": "one\u2028two", "id": 1}, {"text": "é"}]
    jsonl = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    assert _sources(jsonl) == ["one\u2028two", "é"]
    assert _sources(jsonl + "\r\n\n") == ["one\u2028two", "é"]


@pytest.mark.parametrize(
    "text",
    [
        "plain text",
        "{",
        "{ not json }\n",
        "[" * 100_000,
        "9" * 5000,
        "[" * 100_000 + "]" * 100_000,
        "1e999\n2",
        '{"text": "a"}\nthen prose',
    ],
    ids=lambda text: text[:10],
)
def test_what_is_not_jsonl_is_one_text(text):
    assert _sources(text) == [text]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"text": ' + "[" * 100_000, "levels deep"),
        ('{"text": "a", "more": ' + '{"a":' * 70 + "1" + "}" * 71, "levels deep"),
        ('{"text": "\\ud800"}', "surrogate"),
        ('{"text": "a", "id": ' + "9" * 5000 + "}", "64 bits"),
        ('{"text": "a", "score": 1e999}', "too large"),
        ('{"text": "a", "text": "b"}', "twice"),
        ('{"text": 5}', '"text" field'),
        ('{"texts": "a"}', '"text" field'),
        ("5", '"text" field'),
        ("[[]]", '"text" field'),
    ],
)
def test_a_bad_line_of_jsonl_is_named(line, why):
    with pytest.raises(InvalidArgument, match=why) as refused:
        _sources('{"text": "fine"}\n\n' + line)
    assert refused.value.reason == Reason.KV_CALIBRATION
    assert refused.value.metadata == {"line": "3"}
    assert "Line 3" in refused.value.message
