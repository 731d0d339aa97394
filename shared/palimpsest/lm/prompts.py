"""Prompts to token ids, with the model's own tokenizer and chat template."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2.exceptions import TemplateError

from palimpsest.errors import InvalidArgument, Reason


def encode_text(tokenizer: Any, text: str, field: str = "prompt", special_tokens: bool = True) -> list[int]:
    """Token ids of raw text, with the tokenizer's opening special tokens unless the text continues another.

    Raises
    ------
    InvalidArgument
        PROMPT_EMPTY.
    """
    if not text:
        raise InvalidArgument.field(
            Reason.PROMPT_EMPTY, field, f"{field} is empty; send some text, a chat, or token ids."
        )
    return list(tokenizer(text, add_special_tokens=special_tokens)["input_ids"])


def encode_chat(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> list[int]:
    """Token ids of a conversation in the model's chat template, with the reply's opening added.

    Raises
    ------
    InvalidArgument
        NO_CHAT_TEMPLATE, or CHAT_INVALID where the template refuses the messages.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise InvalidArgument.field(
            Reason.NO_CHAT_TEMPLATE, "chat", "This model has no chat template; send a prompt instead."
        )
    try:
        encoded = tokenizer.apply_chat_template(
            [dict(m) for m in messages], add_generation_prompt=True, tokenize=True, return_dict=True
        )
    except TemplateError as error:
        raise InvalidArgument.field(
            Reason.CHAT_INVALID, "chat.messages", f"The model's chat template refuses these messages: {error}"
        ) from error
    return list(encoded["input_ids"])
