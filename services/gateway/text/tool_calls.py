"""Calls of tools in what a model writes: told apart from its text, in the form of its chat template."""

import json
import uuid
from dataclasses import dataclass, field
from typing import Any

from palimpsest import json_input
from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from services.gateway.json_text import dumps

_OPENS, _CLOSES = "<tool_call>", "</tool_call>"
_LIST = "[TOOL_CALLS]"
_LARGEST = 1 << 20


@dataclass(frozen=True)
class Call:
    """A call; ``arguments`` is a JSON object as text."""

    name: str
    arguments: str
    id: str = field(default_factory=lambda: f"call_{uuid.uuid4().hex[:24]}")

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of it."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.id, "type": "function", "function": function}


@dataclass
class Found:
    """What some text turned out to be."""

    text: str = ""
    calls: list[Call] = field(default_factory=list)


class CallParser:
    """Takes a reply in parts; gives text as soon as it can be no call, and calls as they end.

    What looks like a call and is none (no JSON, no name) stays text: nothing that a model wrote gets lost.

    Parameters
    ----------
    form
        A value of ``Tokenizer.ToolCalls``; UNSPECIFIED: all is text.
    """

    def __init__(self, form: "pb.Tokenizer.ToolCalls.ValueType") -> None:
        self._form, self._held, self._inside = form, "", False

    def push(self, text: str) -> Found:
        """Take more of the reply."""
        if self._form == pb.Tokenizer.TOOL_CALLS_UNSPECIFIED:
            return Found(text)
        self._held += text
        if self._form == pb.Tokenizer.TOOL_CALLS_TAGGED:
            return self._tagged()
        begins = "{" if self._form == pb.Tokenizer.TOOL_CALLS_BARE else _LIST
        start = self._held.lstrip()
        if self._inside or not start or start.startswith(begins) or begins.startswith(start):
            return Found()  # it is, or may become, a call, whose end is the reply's
        self._inside = False
        self._form = pb.Tokenizer.TOOL_CALLS_UNSPECIFIED  # a reply in words
        return Found(self._take(len(self._held)))

    def finish(self) -> Found:
        """The reply has ended."""
        held, self._held = self._held, ""
        if self._form == pb.Tokenizer.TOOL_CALLS_TAGGED:
            if self._inside and (call := _call(held)):  # the end of the reply closes it
                return Found(calls=[call])
            return Found(_OPENS + held if self._inside else held)
        if self._form == pb.Tokenizer.TOOL_CALLS_BARE:
            calls = _all_calls([_decoded(held)])
        elif self._form == pb.Tokenizer.TOOL_CALLS_LIST:
            value = _decoded(held.strip().removeprefix(_LIST))
            calls = _all_calls(value if isinstance(value, list) else [])
        else:
            calls = []
        return Found(calls=calls) if calls else Found(held)

    def _take(self, size: int) -> str:
        taken, self._held = self._held[:size], self._held[size:]
        return taken

    def _tagged(self) -> Found:
        found = Found()
        while True:
            mark = _CLOSES if self._inside else _OPENS
            at = self._held.find(mark)
            if at < 0:
                if not self._inside:
                    found.text += self._take(len(self._held) - _overlap(self._held, _OPENS))
                if found.calls:
                    found.text = found.text if found.text.strip() else ""
                return found
            before = self._take(at)
            self._take(len(mark))
            if not self._inside:
                found.text += before
            elif call := _call(before):
                found.calls.append(call)
            else:
                found.text += _OPENS + before + _CLOSES
            self._inside = not self._inside


def _overlap(text: str, mark: str) -> int:
    """Characters at the end of a text that may be the beginning of a mark."""
    return next(
        (size for size in range(min(len(text), len(mark) - 1), 0, -1) if mark.startswith(text[-size:])), 0
    )


def _decoded(text: str) -> Any:
    try:
        return json_input.decode(text.strip(), max_bytes=_LARGEST)
    except json_input.InvalidJson:
        return None


def _call(text: str) -> Call | None:
    calls = _all_calls([_decoded(text)])
    return calls[0] if calls else None


def _all_calls(values: list[Any]) -> list[Call]:
    """The calls, if every value is one; otherwise none."""
    calls = []
    for value in values:
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            return []
        arguments = value.get("arguments", value.get("parameters", {}))
        if isinstance(arguments, str):
            arguments = _decoded(arguments)
        if not isinstance(arguments, dict):
            return []
        calls.append(Call(value["name"], dumps(arguments)))
    return calls


def grammar_of(tools: list[tuple[str, dict[str, Any]]], form: "pb.Tokenizer.ToolCalls.ValueType") -> Any:
    """``StructuredOutput`` of a reply that is one call of one of the tools; None for a form that has no grammar here.

    Parameters
    ----------
    tools
        Names, and the JSON Schemas of their arguments.
    form
        Of the model's calls.
    """
    key = "parameters" if form == pb.Tokenizer.TOOL_CALLS_BARE else "arguments"
    calls = [
        {
            "type": "object",
            "properties": {"name": {"const": name}, key: schema or {"type": "object"}},
            "required": ["name", key],
            "additionalProperties": False,
        }
        for name, schema in tools
    ]
    schema = calls[0] if len(calls) == 1 else {"anyOf": calls}
    if form == pb.Tokenizer.TOOL_CALLS_BARE:
        return {"json_schema": dumps(schema)}
    if form == pb.Tokenizer.TOOL_CALLS_TAGGED:
        return {"grammar": f'start: "{_OPENS}" call "{_CLOSES}"\ncall: %json {json.dumps(schema)}\n'}
    return None
