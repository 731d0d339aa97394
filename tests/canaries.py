"""Lines of data sets that cannot be used, each with a word in another place that no error or log may repeat."""

import json
from typing import Any

WORD = "zanthopterinqx"
NUMBER = "74839201657483920165"
LONG = NUMBER * 20
"""Digits of an integer that fits no field."""
SHOWN = (WORD, NUMBER)
"""What to look for."""


def _line(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


OF_ANY_SET: dict[str, bytes] = {
    "a number that fits no field": b'{"id": "a", "text": %s}' % LONG.encode(),
    "a number as a key's value": b'{"id": "a", "text": "x", "%s": -%s}' % (WORD.encode(), LONG.encode()),
    "a number that is too large": b'{"id": "a", "text": "x", "n": %se999}' % NUMBER.encode(),
    "a key twice": b'{"id": "a", "text": "x", "%s": 1, "%s": 2}' % (WORD.encode(), WORD.encode()),
    "a key twice, nested": b'{"id": "a", "text": "x", "meta": {"%s": 1, "%s": 2}}'
    % (WORD.encode(), WORD.encode()),
    "half of a surrogate pair": b'{"id": "a", "text": "%s \\ud800"}' % WORD.encode(),
    "no JSON": b'{"id": "a", "text": "%s" %s}' % (WORD.encode(), WORD.encode()),
    "an escape of none": b'{"id": "a", "text": "%s \\q"}' % WORD.encode(),
    "a control character": b'{"id": "a", "text": "%s \x01"}' % WORD.encode(),
    "not UTF-8": b'{"id": "a", "text": "%s \xff"}' % WORD.encode(),
    "a text that is a number": b'{"id": "a", "text": %s}' % NUMBER[:18].encode(),
    "a text that is a list": _line(id="a", text=[WORD, int(NUMBER[:18])]),
    "a list": json.dumps([WORD, {WORD: WORD}]).encode(),
    "a string": json.dumps(WORD).encode(),
    "nothing that is known": _line(**{WORD: WORD}),
}
"""Of no use to anybody: neither to a removal request nor to fine-tuning."""

OF_REMOVALS: dict[str, bytes] = {
    **OF_ANY_SET,
    "an unknown key": _line(id="a", text="x", **{WORD: 1}),
    "an unknown key of a question": _line(id="a", question="x", answer="y", **{WORD: WORD}),
    "a key in a field": _line(id="a", question="x", answer="y", aliases={WORD: WORD}),
    "a value of another kind": _line(id="a", text="x", subject=[{WORD: WORD}, WORD]),
    "an id of another kind": _line(id=[WORD], text="x"),
    "an id that is too long": _line(id=WORD * 20, text="x"),
    "an id with a control character": _line(id=f"{WORD}\x1b[2J", text="x"),
    "a question's id with a control character": _line(id=f"{WORD}\nforged", question="x", answer="y"),
    "a word of none": _line(id="a", question="x", answer="y", training=WORD),
    "an answer that is empty": _line(id="a", question=WORD, answer=""),
}

OF_TRAINING: dict[str, bytes] = {
    **OF_ANY_SET,
    "a message that is none": _line(id="a", messages=[{"role": WORD, "content": 1}]),
    "a message of another kind": _line(id="a", messages=[WORD]),
    "no reply": _line(id=WORD, messages=[{"role": WORD, "content": WORD}]),
    "a completion of another kind": _line(id=WORD, prompt=WORD, completion={WORD: WORD}),
}
