"""Tokens of a prompt, named by text, by character offsets, by index or by role in a chat."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.lm.prompts import encode_text
from palimpsest.models.tokenizers import failing_as_model
from services.grafting.chats import Message, Rendered, Role, render, role_ranges


class Prompt(NamedTuple):
    """A prompt as the model reads it.

    Attributes
    ----------
    text
        As it was sent.
    ids
        Token ids, special tokens included.
    ranges
        For each token the characters it stands for, (first, stop) in ``text``; (0, 0) for special tokens.
    chat
        Of a conversation, whose characters are whose.
    """

    text: str
    ids: tuple[int, ...]
    ranges: tuple[tuple[int, int], ...]
    chat: Rendered | None = None

    @property
    def tokens(self) -> list[str]:
        """The text of each token; empty for special tokens."""
        return [self.text[first:stop] for first, stop in self.ranges]


class Span(NamedTuple):
    """Characters of a prompt: a text with its occurrence, from 1 (0: the only one), or offsets if ``text`` is empty."""

    text: str = ""
    occurrence: int = 0
    first: int = 0
    stop: int = 0


class Selection(NamedTuple):
    """Positions of a prompt.

    Attributes
    ----------
    spans
        All tokens of each.
    indices
        Tokens by number; negative ones count from the end.
    everything
        All positions.
    complement
        Those that are not selected, instead.
    roles
        Of a chat.
    """

    spans: tuple[Span, ...] = ()
    indices: tuple[int, ...] = ()
    everything: bool = False
    complement: bool = False
    roles: tuple[Role, ...] = ()


def read_chat(tokenizer: Any, messages: Sequence[Message], field: str = "chat") -> Prompt:
    """Write a conversation in the chat template, and tokenize it as transformers does.

    Raises
    ------
    InvalidArgument
        As :func:`render`.
    FailedPrecondition
        MODEL_INVALID: the tokenizer fails on it.
    """
    chat = render(tokenizer, messages, field)
    with failing_as_model():
        read = tokenizer(chat.text, add_special_tokens=False, return_offsets_mapping=True)
    ranges = tuple((int(first), int(stop)) for first, stop in read["offset_mapping"])
    return Prompt(chat.text, tuple(read["input_ids"]), ranges, chat)


def read_prompt(tokenizer: Any, text: str, field: str = "prompt") -> Prompt:
    """Tokenize a prompt and keep where each token is in it.

    Raises
    ------
    InvalidArgument
        PROMPT_EMPTY.
    FailedPrecondition
        MODEL_INVALID: the tokenizer fails on it.
    """
    ids = tuple(encode_text(tokenizer, text, field))
    with failing_as_model():
        offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    return Prompt(text, ids, tuple((int(first), int(stop)) for first, stop in offsets))


def positions_of(selection: Selection, prompt: Prompt, field: str = "positions") -> tuple[int, ...]:
    """Return the positions that a selection names, in order.

    Raises
    ------
    InvalidArgument
        SPAN_NOT_FOUND, SPAN_AMBIGUOUS, SPAN_SPLITS_TOKEN, POSITION_OUT_OF_RANGE; EMPTY_GRAFT: none are left.
    """
    count = len(prompt.ids)
    found = set(range(count)) if selection.everything else set()
    for at, span in enumerate(selection.spans):
        found.update(_covered(span, prompt, f"{field}.spans[{at}]"))
    for at, role in enumerate(selection.roles):
        found.update(_of_role(role, prompt, f"{field}.roles[{at}]"))
    for at, index in enumerate(selection.indices):
        if not -count <= index < count:
            raise InvalidArgument.field(
                Reason.POSITION_OUT_OF_RANGE,
                f"{field}.indices[{at}]",
                f"The prompt has {count} tokens, so there is no position {index}; the last one is {count - 1}, or -1.",
                position=index,
                tokens=count,
            )
        found.add(index % count)
    if selection.complement:
        found = set(range(count)) - found
    if not found:
        raise InvalidArgument.field(
            Reason.EMPTY_GRAFT, field, f"{field} selects no token. Name spans or indices, or set everything."
        )
    return tuple(sorted(found))


def _covered(span: Span, prompt: Prompt, field: str) -> list[int]:
    """Positions of the tokens in a span; a token's leading white space is not counted as its own."""
    first, stop = _characters(span, prompt.text, field)
    covered = []
    for at, (begin, end) in enumerate(prompt.ranges):
        text = prompt.text[begin:end]
        begin += len(text) - len(text.lstrip()) if text.strip() else 0
        if end <= first or begin >= stop or begin == end:
            continue
        if begin < first or end > stop:
            raise InvalidArgument.field(
                Reason.SPAN_SPLITS_TOKEN,
                field,
                f"Characters {first} to {stop} end within token {at}, {text!r}, which has characters {begin} to {end}. "
                "Take the whole token in, or leave it out.",
                position=at,
                first=begin,
                stop=end,
            )
        covered.append(at)
    if not covered:
        raise _not_found(field, f"Characters {first} to {stop} have no token of their own.")
    return covered


def _of_role(role: Role, prompt: Prompt, field: str) -> list[int]:
    """Positions of the tokens that have a role in a chat."""
    if prompt.chat is None:
        raise InvalidArgument.field(
            Reason.INVALID_REQUEST,
            field,
            "A plain prompt has no roles. Send a chat, or name texts or indices.",
        )
    found: list[int] = []
    for first, stop in role_ranges(role, prompt.chat, field):
        covered = _covered(Span("", 0, first, stop), prompt, field)
        found += covered[-1:] if role.part == "last" else covered
    return found


def _characters(span: Span, text: str, field: str) -> tuple[int, int]:
    if not span.text:
        if not 0 <= span.first < span.stop <= len(text):
            raise _not_found(
                field,
                f"The prompt has {len(text)} characters, so there are none from {span.first} to {span.stop}.",
            )
        return span.first, span.stop
    starts = _occurrences(span.text, text)
    if not starts:
        raise _not_found(field, f"{span.text!r} is not in the prompt.")
    if span.occurrence > len(starts):
        raise _not_found(
            field, f"{span.text!r} is in the prompt {len(starts)} times, not {span.occurrence} times."
        )
    if span.occurrence == 0 and len(starts) > 1:
        raise InvalidArgument.field(
            Reason.SPAN_AMBIGUOUS,
            field,
            f"{span.text!r} is in the prompt {len(starts)} times; say which with occurrence, from 1.",
            occurrences=len(starts),
        )
    start = starts[max(0, span.occurrence - 1)]
    return start, start + len(span.text)


def _occurrences(part: str, text: str) -> Sequence[int]:
    found, at = [], text.find(part)
    while at >= 0:
        found.append(at)
        at = text.find(part, at + 1)
    return found


def _not_found(field: str, message: str) -> InvalidArgument:
    return InvalidArgument.field(Reason.SPAN_NOT_FOUND, field, message)
