"""Conversations in a model's chat template, and which of their characters are whose.

The template is a program, so where it puts things is found by letting it write marks in place of contents: what stands
between two marks are the end of one message and the beginning of the next. Where one ends is told by the same template
for a conversation that stops there.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from palimpsest.errors import InvalidArgument, PalimpsestError, Reason
from palimpsest.models.tokenizers import failing_as_model

_MARK = "\ue000{}\ue001"
"""Of a message, by its number: characters for private use, which no template looks for."""


class Message(NamedTuple):
    """What somebody says: "system", "user" or "assistant"."""

    role: str
    content: str


class Turn(NamedTuple):
    """One message in the text: header, content and footer by the characters where each begins, and where it stops."""

    role: str
    header: int
    content: int
    footer: int
    stop: int


class Rendered(NamedTuple):
    """A conversation as the model reads it.

    Attributes
    ----------
    text
        With the template's generation prompt.
    turns
        Its messages in order.
    opening
        Where what comes before the first message's header stops: a first token, or a system prompt of the template's.
    generation
        Where the generation prompt begins; the length of the text where there is none.
    """

    text: str
    turns: tuple[Turn, ...]
    opening: int
    generation: int


class Role(NamedTuple):
    """Tokens of a chat, as of the contract's RolePositions.

    Attributes
    ----------
    role, message
        Whose, and which of theirs, from 1 or from the end (-1); 0 for all.
    part
        "content", "header", "footer", "whole" or "last".
    """

    role: str
    message: int = 0
    part: str = "content"


def render(tokenizer: Any, messages: Sequence[Message], field: str = "chat") -> Rendered:
    """Write a conversation in the model's template.

    Raises
    ------
    InvalidArgument
        NO_CHAT_TEMPLATE; CHAT_INVALID: the template refuses the messages, or changes what they say.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise InvalidArgument.field(
            Reason.NO_CHAT_TEMPLATE, field, "The base has no chat template; send a prompt instead of a chat."
        )
    text = _written(tokenizer, messages, True, field)
    gaps = _gaps(tokenizer, [each.role for each in messages], True, field)
    contents = [each.content for each in messages]
    for said in (contents, [each.strip() for each in contents]):
        if text == _joined(gaps, said):
            break
    else:
        raise InvalidArgument.field(
            Reason.CHAT_INVALID,
            field,
            "The chat template does more with these messages than put something between them, so that their tokens "
            "cannot be told apart. Send what it writes as a prompt, and name texts of it.",
        )
    roles = [each.role for each in messages]
    footers = _footers(tokenizer, roles, gaps)
    opening = _opening(tokenizer, roles[0], gaps[0])
    turns, at = [], opening
    for number, (gap, content, footer) in enumerate(zip(gaps, said, footers, strict=False)):
        before = footers[number - 1] if number else opening
        begin = at + len(gap) - before
        turns.append(Turn(roles[number], at, begin, begin + len(content), begin + len(content) + footer))
        at = turns[-1].stop
    return Rendered(text, tuple(turns), opening, at)


def role_ranges(role: Role, chat: Rendered, field: str) -> list[tuple[int, int]]:
    """Return the characters that have a role, (first, stop) each.

    Raises
    ------
    InvalidArgument
        SPAN_NOT_FOUND; INVALID_REQUEST: a part of what is no message.
    """
    if role.role in ("generation", "opening"):
        if role.part not in ("content", "whole", "last") or role.message:
            raise InvalidArgument.field(
                Reason.INVALID_REQUEST,
                field,
                f"{role.role} is no message, and has neither a number nor a header and a footer. Leave them out.",
            )
        ranges = [(chat.generation, len(chat.text)) if role.role == "generation" else (0, chat.opening)]
    else:
        turns = [turn for turn in chat.turns if turn.role == role.role]
        if not turns or not -len(turns) <= role.message <= len(turns):
            raise InvalidArgument.field(
                Reason.SPAN_NOT_FOUND,
                field,
                f"The chat has {len(turns)} messages of the {role.role}, and so no message {role.message} of it.",
            )
        if role.message:
            turns = [turns[role.message - 1 if role.message > 0 else role.message]]
        parts = {
            "header": [(turn.header, turn.content) for turn in turns],
            "footer": [(turn.footer, turn.stop) for turn in turns],
            "whole": [(turn.header, turn.stop) for turn in turns],
        }
        ranges = parts.get(role.part, [(turn.content, turn.footer) for turn in turns])
    there = [each for each in ranges if each[0] < each[1]]
    if not there:
        raise InvalidArgument.field(
            Reason.SPAN_NOT_FOUND,
            field,
            f"In this chat the {role.part} of {role.role!r} has no characters: the template writes none, or nothing is "
            "said.",
        )
    return there


def _written(tokenizer: Any, messages: Sequence[Message], prompt: bool, field: str) -> str:
    try:
        with failing_as_model():
            return tokenizer.apply_chat_template(
                [each._asdict() for each in messages], add_generation_prompt=prompt, tokenize=False
            )
    except PalimpsestError:
        raise
    except Exception as error:  # a template is a program of the model's, and may fail in any way
        raise InvalidArgument.field(
            Reason.CHAT_INVALID, field, f"The base's chat template refuses these messages: {error}"
        ) from error


def _gaps(tokenizer: Any, roles: Sequence[str], prompt: bool, field: str = "chat") -> list[str]:
    """What the template writes before, between and after messages of these roles."""
    marks = [_MARK.format(number) for number in range(len(roles))]
    left = _written(tokenizer, [Message(*each) for each in zip(roles, marks, strict=True)], prompt, field)
    gaps = []
    for mark in marks:
        gap, found, left = left.partition(mark)
        if not found:
            raise InvalidArgument.field(
                Reason.CHAT_INVALID, field, "The chat template leaves out one of these messages. Send fewer."
            )
        gaps.append(gap)
    return [*gaps, left]


def _joined(gaps: Sequence[str], contents: Sequence[str]) -> str:
    return "".join(part for pair in zip(gaps, [*contents, ""], strict=True) for part in pair)


def _footers(tokenizer: Any, roles: Sequence[str], gaps: Sequence[str]) -> list[int]:
    """Characters of each gap but the first that end the message before it.

    Those are there where the conversation stops. Many templates refuse to stop after a system message: there the
    longest end of another message counts.
    """
    found = [_end(tokenizer, roles[: n + 1], gaps[n + 1]) for n in range(len(roles))]
    known = sorted({end for end in found if end}, key=len)
    ends = [
        end if end is not None else next((k for k in reversed(known) if gap.startswith(k)), "")
        for end, gap in zip(found, gaps[1:], strict=True)
    ]
    return [len(end) for end in ends]


def _end(tokenizer: Any, roles: Sequence[str], gap: str) -> str | None:
    """What ends the last of some messages; None where the template does not tell."""
    with suppress(PalimpsestError):
        end = _gaps(tokenizer, roles, False)[-1]
        if gap.startswith(end):
            return end
    return None


def _opening(tokenizer: Any, role: str, gap: str) -> int:
    """Characters of the first gap that come before the header of the first message."""
    with suppress(PalimpsestError):
        roles = [role, "assistant" if role != "assistant" else "user", role]
        gaps = _gaps(tokenizer, roles, False)
        header = gaps[2].removeprefix(_end(tokenizer, roles[:2], gaps[2]) or "")
        if header and gap.endswith(header):
            return len(gap) - len(header)
    first = getattr(tokenizer, "bos_token", None) or ""
    return len(first) if gap.startswith(first) else 0
