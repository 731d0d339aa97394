"""What a model's chat template knows: roles, tools, and the form in which the model calls them.

A template is a program of the model's. What it does not mention it drops without a word, or writes out as the model has
never read it; so a conversation is compared with the names in the template's source before it is rendered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

from palimpsest.errors import InvalidArgument, PalimpsestError, Reason
from palimpsest.models.tokenizers import failing_as_model

USUAL_ROLES = ("system", "user", "assistant")
"""Roles that every conversation may have; the template itself says whether it takes them."""
OTHER_ROLES = ("developer", "tool")
"""Roles for those templates alone that name them."""


class CallForm(Enum):
    """How a model writes a call of a tool."""

    UNKNOWN = "unknown"
    TAGGED = "tagged"
    BARE = "bare"
    LIST = "list"


@dataclass(frozen=True)
class TemplateFacts:
    """What a template mentions.

    Attributes
    ----------
    roles
        Roles that a conversation may have.
    takes_tools, takes_calls
        Whether it describes tools to the model, and whether it writes an assistant's earlier calls.
    calls
        The form of calls; UNKNOWN where it has none, or one of its own.
    """

    roles: tuple[str, ...]
    takes_tools: bool
    takes_calls: bool
    calls: CallForm


NO_TEMPLATE = TemplateFacts((), False, False, CallForm.UNKNOWN)


@lru_cache(maxsize=32)
def facts_of(template: str) -> TemplateFacts:
    """Read a template's source.

    Raises
    ------
    jinja2.TemplateSyntaxError
        It is none.
    """
    from jinja2 import Environment, meta, nodes

    # The blocks that transformers adds to jinja, and loop controls, as in its own environment.
    source = template.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    tree = Environment(extensions=["jinja2.ext.loopcontrols"]).parse(source)
    words = {str(node.value) for node in tree.find_all(nodes.Const)}
    words |= {node.attr for node in tree.find_all(nodes.Getattr)}
    takes_tools = "tools" in meta.find_undeclared_variables(tree)
    return TemplateFacts(
        roles=(*USUAL_ROLES, *(role for role in OTHER_ROLES if role in words)),
        takes_tools=takes_tools,
        takes_calls="tool_calls" in words,
        calls=_form(template) if takes_tools else CallForm.UNKNOWN,
    )


def _form(template: str) -> CallForm:
    if "<tool_call>" in template:
        return CallForm.TAGGED
    if "[TOOL_CALLS]" in template:
        return CallForm.LIST
    if '"parameters"' in template and '"name"' in template:
        return CallForm.BARE
    return CallForm.UNKNOWN


def template_of(tokenizer: Any, tools: bool = False) -> str:
    """The template's source; empty where the tokenizer has none. A tokenizer may have another one for tools."""
    found = getattr(tokenizer, "chat_template", None)
    if isinstance(found, dict):
        found = (found.get("tool_use") if tools else None) or found.get("default")
    return found or ""


def render_chat(
    tokenizer: Any,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] = (),
    opening: bool = True,
) -> str:
    """A conversation as its model reads it.

    Parameters
    ----------
    tokenizer
        The model's.
    messages
        Each with ``role`` and ``content``, and where it has them ``tool_calls``, ``tool_call_id`` and ``name``.
    tools
        Each ``{"type": "function", "function": {"name", "description", "parameters"}}``.
    opening
        Whether the opening of the assistant's reply is added.

    Raises
    ------
    InvalidArgument
        NO_CHAT_TEMPLATE; CHAT_ROLE_UNKNOWN; TOOLS_UNSUPPORTED; or CHAT_INVALID where the template refuses the messages,
        or fails.
    FailedPrecondition
        MODEL_INVALID: the tokenizer fails.
    """
    template = template_of(tokenizer, bool(tools))
    if not template:
        raise InvalidArgument.field(
            Reason.NO_CHAT_TEMPLATE, "chat", "This model has no chat template; send a prompt instead."
        )
    try:
        _check(facts_of(template), messages, tools)
        with failing_as_model():
            return tokenizer.apply_chat_template(
                [dict(m) for m in messages],
                tools=list(tools) or None,
                chat_template=template,
                add_generation_prompt=opening,
                tokenize=False,
            )
    except PalimpsestError:
        raise
    except Exception as error:  # a template is a program of the model's, and may fail in any way
        raise InvalidArgument.field(
            Reason.CHAT_INVALID, "chat.messages", f"The model's chat template refuses these messages: {error}"
        ) from error


def _check(
    facts: TemplateFacts, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]
) -> None:
    for at, message in enumerate(messages):
        if message["role"] not in facts.roles:
            raise InvalidArgument.field(
                Reason.CHAT_ROLE_UNKNOWN,
                f"chat.messages[{at}].role",
                f"This model's chat template does not know the role {message['role']!r}; it takes "
                f"{', '.join(facts.roles)}.",
                role=message["role"],
            )
        if message.get("tool_calls") and not facts.takes_calls:
            raise InvalidArgument.field(
                Reason.TOOLS_UNSUPPORTED,
                f"chat.messages[{at}].tool_calls",
                "This model's chat template has no place for calls of tools; leave tool_calls out.",
            )
    if tools and not facts.takes_tools:
        raise InvalidArgument.field(
            Reason.TOOLS_UNSUPPORTED,
            "tools",
            "This model's chat template knows no tools; leave tools out, or use a model that was trained with them.",
        )
