"""Which tools a reply may, must or must not call, and how the model is held to it."""

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.client.aio.decoding import AsyncDecoding
from services.gateway.bodies import Body
from services.gateway.errors import bad, unsupported
from services.gateway.text.messages import Tool, tools_of
from services.gateway.text.tool_calls import grammar_of

_CLOSES = "</tool_call>"


class NamedFunction(Body):
    """The function that has to be called."""

    name: str


class NamedTool(Body):
    """The tool that has to be called."""

    type: Literal["function"]
    function: NamedFunction


ToolChoice = Literal["none", "auto", "required"] | NamedTool


class AsksTools(Protocol):
    """The fields of a request that are about tools."""

    tools: list[Tool] | None
    tool_choice: ToolChoice | None
    parallel_tool_calls: bool


@dataclass(frozen=True)
class Tools:
    """What becomes of them.

    Attributes
    ----------
    form
        How the model writes calls; UNSPECIFIED where it is to call nothing.
    structured
        The reply that is one call, where one is asked for.
    """

    form: "pb.Tokenizer.ToolCalls.ValueType" = pb.Tokenizer.TOOL_CALLS_UNSPECIFIED
    tools: list[dict[str, Any]] = field(default_factory=list)
    structured: dict[str, Any] | None = None
    stop: str = ""

    def fields(self, request: dict[str, Any]) -> dict[str, Any]:
        """The fields of ``GenerateRequest`` that change."""
        made: dict[str, Any] = {"tools": self.tools} if self.tools else {}
        if self.structured is not None:
            made["structured"] = self.structured
        if self.stop:
            made["stop"] = [*request.get("stop", []), self.stop]
        return made


async def tools_for(room: AsyncDecoding, model: str, body: AsksTools) -> Tools:
    """Check a request's tools against its model.

    Raises
    ------
    ApiError
        400: the model's chat template knows no tools, or the choice cannot be kept.
    """
    choice = body.tool_choice
    if not body.tools:
        if choice not in (None, "none", "auto"):
            raise bad("tool_choice", "tool_choice asks for a call, and there are no tools.")
        return Tools()
    if choice == "none":
        return Tools()
    known = await room.get_tokenizer(model=model)
    if not known.takes_tools:
        raise unsupported(
            "tools",
            "This model's chat template knows no tools; leave tools out, or use a model that was trained with them.",
        )
    if known.tool_calls == pb.Tokenizer.TOOL_CALLS_UNSPECIFIED:
        raise unsupported(
            "tools", "The form in which this model's chat template writes calls of tools is not known here."
        )
    forced = choice in ("required",) or isinstance(choice, NamedTool)
    stop = ""
    if not forced:
        strict = next((at for at, tool in enumerate(body.tools) if tool.function.strict), None)
        if strict is not None:
            raise unsupported(
                f"tools[{strict}].function.strict",
                "A reply that may also be text is not kept to a schema; leave strict out, or set tool_choice.",
            )
        if not body.parallel_tool_calls:
            if known.tool_calls != pb.Tokenizer.TOOL_CALLS_TAGGED:
                raise unsupported(
                    "parallel_tool_calls", "This model's form of calls cannot be kept to one; leave it out."
                )
            stop = _CLOSES  # the first call ends the reply
        return Tools(known.tool_calls, tools_of(body.tools), stop=stop)
    chosen = body.tools
    if isinstance(choice, NamedTool):
        chosen = [tool for tool in body.tools if tool.function.name == choice.function.name]
        if not chosen:
            raise bad("tool_choice.function.name", f"There is no tool named {choice.function.name!r}.")
    pairs = [(tool.function.name, tool.function.parameters or {}) for tool in chosen]
    structured = grammar_of(pairs, known.tool_calls)
    if structured is None:
        raise unsupported("tool_choice", "This model's form of calls cannot be asked for; use auto or none.")
    return Tools(known.tool_calls, tools_of(body.tools), structured)
