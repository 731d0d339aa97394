"""Training data: JSON lines or plain text to examples.

Each line says by its keys what it is: ``{"text": ...}``, of which every token counts; ``{"messages": [...]}``, a
conversation in the model's chat template, of which the assistant's tokens count; or ``{"prompt": ..., "completion":
...}``, of which the completion counts. Other keys are left alone, except ``id``, which names the line's examples.

A sequence that is too long is cut into windows. Each begins with the last token of the one before it, so that every
token that counts is predicted exactly once.

Errors name lines and repeat nothing of them: they are kept in records and logs, where nobody deletes the data.
"""

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from palimpsest import json_input
from palimpsest.errors import InvalidArgument, Reason
from palimpsest.models.tokenizers import failing_as_model
from palimpsest.training.batches import Example
from palimpsest.training.conversations import Sequence, conversation

LONGEST_LINE = 64 << 20
"""Bytes of the longest line, and of the longest plain text that is read at once."""


def read_examples(
    file: BinaryIO,
    tokenizer: Any,
    max_tokens: int,
    *,
    plain: bool = False,
    what: str = "train",
    check: Callable[[], None] = lambda: None,
) -> list[Example]:
    """Read a set of examples.

    Parameters
    ----------
    file
        JSON lines in UTF-8; empty lines are skipped.
    tokenizer
        transformers' own.
    max_tokens
        Most tokens of an example, at least 2.
    plain
        The file is one document of plain text instead.
    what
        What to call the data in messages.
    check
        Called for each line; may raise to stop.

    Raises
    ------
    InvalidArgument
        TRAINING_DATA_INVALID: a line is not an object of one of the three kinds, or the model's template refuses
        it; the message and ``metadata["line"]`` name it. TRAINING_DATA_EMPTY: no token counts in any line.
        TRAINING_RECIPE_INVALID: ``max_tokens`` is too small.
    FailedPrecondition
        MODEL_INVALID: the tokenizer fails.
    """
    if max_tokens < 2:
        message = f"Examples need room for at least 2 tokens, not {max_tokens}."
        raise InvalidArgument(Reason.TRAINING_RECIPE_INVALID, message)
    examples: list[Example] = []
    for number, name, make in _documents(file, tokenizer, plain, what):
        check()
        try:
            for sequence in make():
                examples += windows(sequence, max_tokens, name)
        except InvalidArgument as error:
            raise _invalid(what, number, error.message, error.reason) from None
    if not examples:
        raise InvalidArgument(
            Reason.TRAINING_DATA_EMPTY,
            f"Nothing in the data for {what} can be predicted: it is empty, or no line has a token that counts.",
        )
    return examples


def windows(sequence: Sequence, max_tokens: int, name: str = "") -> list[Example]:
    """Cut a sequence into examples; those in which nothing counts are left out.

    Parameters
    ----------
    sequence
        Token ids, and which of them count.
    max_tokens
        Most tokens of an example, at least 2.
    name
        The examples' name.
    """
    ids, counted = sequence
    made = []
    for first in range(0, max(1, len(ids) - 1), max_tokens - 1):
        cut = slice(first, first + max_tokens)
        if any(counted[cut][1:]):
            made.append(Example(tuple(ids[cut]), tuple(counted[cut]), name))
    return made


def text_sequence(tokenizer: Any, text: str) -> Sequence:
    """Token ids of a document, closed by the tokenizer's end token; all of them count."""
    ids = _encode(tokenizer, text, special=True)
    ids += _end(tokenizer, ids)
    return ids, [True] * len(ids)


def completion_sequence(tokenizer: Any, prompt: str, completion: str) -> Sequence:
    """Token ids of a prompt and what should follow, closed by the end token; only what follows counts.

    The two are tokenised apart, as they are when the model answers.
    """
    before = _encode(tokenizer, prompt, special=True)
    end = tokenizer.eos_token_id
    if before and before[-1] == end and len(before) > 1:
        before = before[:-1]  # of a tokenizer that closes every text
    after = _encode(tokenizer, completion, special=False)
    after += _end(tokenizer, after)
    return before + after, [False] * len(before) + [True] * len(after)


def _documents(
    file: BinaryIO, tokenizer: Any, plain: bool, what: str
) -> Iterator[tuple[int, str, Callable[[], list[Sequence]]]]:
    """Line numbers from 1, names, and what makes their sequences."""
    if plain:
        data = file.read(LONGEST_LINE + 1)
        if len(data) > LONGEST_LINE:
            message = f"A plain text may have {LONGEST_LINE} bytes. Send its parts as JSON lines."
            raise InvalidArgument(Reason.TRAINING_DATA_INVALID, message)
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            message = f"The data for {what} is not UTF-8 at byte {error.start}."
            raise InvalidArgument(Reason.TRAINING_DATA_INVALID, message) from None
        yield 1, "", lambda: [text_sequence(tokenizer, text)]
        return
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if not line.strip():
            continue
        try:
            entry = json_input.decode(line, max_bytes=LONGEST_LINE)
        except json_input.InvalidJson as error:
            raise _invalid(what, number, f"{error.problem}.") from None
        name = entry.get("id", "") if isinstance(entry, dict) else ""
        yield number, str(name), lambda entry=entry: _sequences(tokenizer, entry)


def _sequences(tokenizer: Any, entry: Any) -> list[Sequence]:
    match entry:
        case {"messages": list(messages)}:
            return conversation(tokenizer, messages)
        case {"prompt": str(prompt), "completion": str(completion)}:
            return [completion_sequence(tokenizer, prompt, completion)]
        case {"text": str(text)}:
            return [text_sequence(tokenizer, text)]
    raise InvalidArgument(
        Reason.TRAINING_DATA_INVALID,
        'it must be an object with a "text", with a "prompt" and a "completion", or with "messages".',
    )


def _encode(tokenizer: Any, text: str, special: bool) -> list[int]:
    with failing_as_model(private=True):
        return list(tokenizer(text, add_special_tokens=special)["input_ids"])


def _end(tokenizer: Any, ids: list[int]) -> list[int]:
    end = tokenizer.eos_token_id
    return [] if end is None or ids[-1:] == [end] else [end]


def _invalid(what: str, number: int, why: str, reason: str = Reason.TRAINING_DATA_INVALID) -> InvalidArgument:
    message = f"Line {number} of the data for {what} is not usable: {why}"
    return InvalidArgument(reason, message, metadata={"line": number, "data": what})
