"""Other answers to the prompts of a forget set, for DPO, IDK and FLAT: refusals after the same prompt tokens."""

from collections.abc import Sequence
from typing import Any

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.training.batches import Example

REFUSALS = (
    "I do not know.",
    "I have no information about that.",
    "That is not something I can answer.",
    "I am not familiar with this topic.",
    "I cannot say; I have not learned about it.",
    "Nothing I know answers this question.",
    "I am not able to help with that.",
    "My knowledge does not cover this.",
    "I would have to guess, so I had better not answer.",
    "I have never come across it.",
    "This is unknown to me.",
    "I am afraid I cannot tell you.",
)
"""Refusals that are used where the caller gives none."""


def refusals_for(
    forget: Sequence[Example], tokenizer: Any, texts: Sequence[str] = REFUSALS, separator: str = " "
) -> list[list[Example]]:
    """Return, for each example, its prompt with every refusal as the answer.

    Parameters
    ----------
    forget
        Pairs: the tokens before the first counted one are the prompt.
    tokenizer
        transformers' own; its end of text, if it has one, ends each answer.
    texts
        The refusals.
    separator
        What stands between a prompt and its answer.

    Raises
    ------
    InvalidArgument
        ALGORITHM_INPUT_MISSING: an example has no prompt of at least two tokens, as a plain document has none.
    """
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    answers = [tokenizer.encode(separator + text, add_special_tokens=False) + end for text in texts]
    found = []
    for example in forget:
        first = example.counted.index(True) if any(example.counted) else 0
        if first < 2:
            message = (
                f"Example {example.name!r} has no prompt, so it can have no other answer. Give questions with answers, "
                "or choose an algorithm that needs no alternatives."
            )
            raise InvalidArgument.field(Reason.ALGORITHM_INPUT_MISSING, "alternatives", message)
        prompt = example.ids[:first]
        found.append(
            [
                Example(prompt + tuple(answer), (False,) * first + (True,) * len(answer), example.name)
                for answer in answers
            ]
        )
    return found
