"""Conversations as OpenAI's clients send them, and what they are in the contract."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import model_validator

from services.gateway.bodies import Body
from services.gateway.errors import bad, unsupported
from services.gateway.json_text import dumps

Json = dict[str, Any]


class NullsLeftOut(Body):
    """A body in which a field that is null counts as left out: clients send back messages as they came."""

    @model_validator(mode="before")
    @classmethod
    def _leave_out(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: each for name, each in value.items() if each is not None}
        return value


class TextPart(NullsLeftOut):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


class CalledFunction(NullsLeftOut):
    """What a call calls; the arguments are a JSON object as text."""

    name: str
    arguments: str


class ToolCall(NullsLeftOut):
    """A call that the assistant made."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class Message(NullsLeftOut):
    """A message. ``type`` says no more than that its content is text; annotations are those of an earlier answer."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] = ""
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    type: Literal["text"] | None = None
    annotations: list[Json] | None = None


class Function(NullsLeftOut):
    """A function that the model may call."""

    name: str
    description: str = ""
    parameters: Json | None = None
    strict: bool = False


class Tool(NullsLeftOut):
    """A tool."""

    type: Literal["function"]
    function: Function


def chat_of(messages: Sequence[Message]) -> list[Json]:
    """The messages of ``ChatMessages``.

    Raises
    ------
    ApiError
        400: there are none, or a field does not go with its message's role.
    """
    if not messages:
        raise bad("messages", "messages is empty; send at least one message.")
    return [_message(message, f"messages[{at}]") for at, message in enumerate(messages)]


def _message(message: Message, where: str) -> Json:
    content = message.content
    made: Json = {
        "role": message.role,
        "content": content if isinstance(content, str) else "".join(part.text for part in content),
    }
    if message.tool_calls:
        if message.role != "assistant":
            raise bad(f"{where}.tool_calls", "tool_calls goes with the role assistant.")
        made["tool_calls"] = [
            {"id": call.id, "name": call.function.name, "arguments": call.function.arguments}
            for call in message.tool_calls
        ]
    if message.role == "tool":
        if not message.tool_call_id:
            raise bad(f"{where}.tool_call_id", "A message of the role tool needs tool_call_id.")
        made["tool_call_id"] = message.tool_call_id
        made["name"] = message.name
    else:
        for name in ("tool_call_id", "name"):
            if getattr(message, name):
                raise unsupported(
                    f"{where}.{name}",
                    f"{name} goes with the role tool here; leave it out, it would be ignored.",
                )
    return made


def tools_of(tools: Sequence[Tool]) -> list[Json]:
    """The tools of ``GenerateRequest``."""
    return [
        {
            "name": tool.function.name,
            "description": tool.function.description,
            "parameters": dumps(tool.function.parameters) if tool.function.parameters else "",
        }
        for tool in tools
    ]
