"""Conversations and tools: from the contract's messages to what chat templates take."""

from collections.abc import Sequence
from typing import Any

from palimpsest import json_input
from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.errors import InvalidArgument, Reason

_LARGEST = 1 << 20
"""Bytes of a tool's parameters, or of a call's arguments."""


def chat_of(chat: pb.ChatMessages) -> list[dict[str, Any]]:
    """The messages as a template takes them: what a message leaves out is not there.

    Raises
    ------
    InvalidArgument
        TOOL_INVALID: the arguments of a call are not a JSON object.
    """
    return [_message(message, at) for at, message in enumerate(chat.messages)]


def _message(message: pb.ChatMessage, at: int) -> dict[str, Any]:
    made: dict[str, Any] = {"role": message.role, "content": message.content}
    for name in ("tool_call_id", "name"):
        if value := getattr(message, name):
            made[name] = value
    if message.tool_calls:
        made["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {
                    "name": call.name,
                    "arguments": _object(call.arguments, f"chat.messages[{at}].tool_calls[{n}].arguments"),
                },
            }
            for n, call in enumerate(message.tool_calls)
        ]
    return made


def tools_of(tools: Sequence[pb.Tool]) -> list[dict[str, Any]]:
    """Tools as a template takes them.

    Raises
    ------
    InvalidArgument
        TOOL_INVALID: the parameters of a tool are not a JSON object.
    """
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": _object(tool.parameters, f"tools[{at}].parameters")
                or {"type": "object", "properties": {}},
            },
        }
        for at, tool in enumerate(tools)
    ]


def _object(text: str, field: str) -> dict[str, Any]:
    try:
        value = json_input.decode(text, max_bytes=_LARGEST) if text else {}
    except json_input.InvalidJson as error:
        raise InvalidArgument.field(
            Reason.TOOL_INVALID, field, f"{field} is not usable JSON: {error}."
        ) from None
    if not isinstance(value, dict):
        raise InvalidArgument.field(Reason.TOOL_INVALID, field, f"{field} is not a JSON object.")
    return value
