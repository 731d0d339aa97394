"""Conversations to token ids, and which of them the assistant wrote."""

import re
from typing import Any, TypeAlias

from palimpsest.errors import InvalidArgument, PalimpsestError, Reason
from palimpsest.models.tokenizers import failing_as_model

Sequence: TypeAlias = tuple[list[int], list[bool]]
"""Token ids, and for each whether predicting it counts."""

_MARKED = re.compile(r"\{%-?\s*generation\b")


def conversation(tokenizer: Any, messages: list[Any]) -> list[Sequence]:
    """Token ids of a conversation in the model's chat template; what the assistant says, and ends with, counts.

    Where the template marks the assistant's part (``{% generation %}``), that is what counts. Otherwise it is what a
    reply adds to the template's opening of one. Where the template renders earlier replies in another way than the last
    one (it leaves out their reasoning, for example), there is one sequence for each reply, of which that reply counts.

    Parameters
    ----------
    tokenizer
        transformers' own, with a chat template and the characters of each token.
    messages
        Objects with ``role`` and ``content``.

    Raises
    ------
    InvalidArgument
        TRAINING_DATA_INVALID: not a conversation with a reply, or the template refuses it. NO_CHAT_TEMPLATE.
    """
    _check(messages)
    if not getattr(tokenizer, "chat_template", None):
        raise InvalidArgument(Reason.NO_CHAT_TEMPLATE, "the model has no chat template; send texts instead.")
    try:
        with failing_as_model(private=True):
            return _sequences(tokenizer, messages)
    except PalimpsestError:
        raise
    except Exception as error:  # a template is a program of the model's, and may fail in any way
        raise _invalid(f"the model's chat template refuses the messages{_why(tokenizer, error)}.") from None


def _why(tokenizer: Any, error: Exception) -> str:
    """What a template says of its own; what it made of the messages is not repeated."""
    said = str(error).strip().rstrip(".")
    return f": {said}" if said and said in str(tokenizer.chat_template) else f" ({type(error).__name__})"


def _check(messages: list[Any]) -> None:
    for message in messages:
        if not isinstance(message, dict) or not all(
            isinstance(message.get(k), str) for k in ("role", "content")
        ):
            raise _invalid('each of its messages must be an object with a "role" and a "content".')
    if not any(message["role"] == "assistant" for message in messages):
        raise _invalid("none of its messages is the assistant's.")


def _sequences(tokenizer: Any, messages: list[dict[str, str]]) -> list[Sequence]:
    if _MARKED.search(str(tokenizer.chat_template)):
        encoded = tokenizer.apply_chat_template(
            messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        return [(list(encoded["input_ids"]), [bool(each) for each in encoded["assistant_masks"]])]
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    replies, stable = [], True  # the conversation up to each reply, and where the reply is in it
    for n, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        opening = tokenizer.apply_chat_template(messages[:n], tokenize=False, add_generation_prompt=True)
        replied = tokenizer.apply_chat_template(messages[: n + 1], tokenize=False)
        if not replied.startswith(opening):
            raise _invalid("the model's chat template does not say where a reply begins.")
        replies.append((replied, (len(opening), len(replied))))
        stable = stable and whole.startswith(replied)
    if stable:
        return [_masked(tokenizer, whole, [span for _, span in replies])]
    return [_masked(tokenizer, text, [span]) for text, span in replies]


def _masked(tokenizer: Any, text: str, spans: list[tuple[int, int]]) -> Sequence:
    """Tokenise rendered text; tokens that begin within one of the spans of characters count."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    starts = [start for start, _ in encoded["offset_mapping"]]
    counted = [any(first <= start < end for first, end in spans) for start in starts]
    return list(encoded["input_ids"]), counted


def _invalid(message: str) -> InvalidArgument:
    return InvalidArgument(Reason.TRAINING_DATA_INVALID, message)
