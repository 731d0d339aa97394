"""What metrics are measured on: texts, prompts with their true continuations, questions with their answers."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.models.tokenizers import failing_as_model


@dataclass(frozen=True)
class Text:
    """A whole text, for membership scores and perplexity.

    Parameters
    ----------
    id
        Name of the document.
    text
        Its text, or its token ids. Attacks that look at characters (``zlib``, ``lowercase``) need text.
    """

    id: str
    text: str | tuple[int, ...]

    def ids(self, tokenizer: Any) -> tuple[int, ...]:
        """Token ids, with the special tokens that the tokenizer itself puts in front."""
        return _encode(tokenizer, self.text, special=True)


@dataclass(frozen=True)
class Prompt:
    """The beginning of a document and how it goes on.

    Parameters
    ----------
    id
        Name of the item.
    prompt, truth
        Text, or token ids. Ids cut from one tokenization of the document (:meth:`cut`) have no seam between the two,
        at which a tokenizer might have joined characters.
    """

    id: str
    prompt: str | tuple[int, ...]
    truth: str | tuple[int, ...]

    @classmethod
    def cut(cls, text: Text, tokenizer: Any, prompt_tokens: int, truth_tokens: int) -> "Prompt":
        """Cut a document's first tokens into a prompt and its continuation.

        Raises
        ------
        InvalidArgument
            METRIC_ITEMS_INVALID: the document has no token after the prompt.
        """
        ids = text.ids(tokenizer)
        truth = ids[prompt_tokens : prompt_tokens + truth_tokens]
        if prompt_tokens < 1 or not truth:
            message = (
                f"{text.id} has {len(ids)} tokens, which leaves nothing to continue after a prompt of "
                f"{prompt_tokens}. Leave it out, or ask for a shorter prompt."
            )
            raise InvalidArgument(Reason.METRIC_ITEMS_INVALID, message, metadata={"item": text.id})
        return cls(text.id, ids[:prompt_tokens], truth)

    def prompt_ids(self, tokenizer: Any) -> tuple[int, ...]:
        """Token ids of the prompt, with the special tokens that the tokenizer puts in front."""
        return _encode(tokenizer, self.prompt, special=True)

    def truth_text(self, tokenizer: Any, tokens: int) -> str:
        """Text of the first ``tokens`` tokens of the truth; a text is encoded with special tokens, as MUSE does it."""
        ids = _encode(tokenizer, self.truth, special=True)[:tokens]
        return tokenizer.decode(ids, skip_special_tokens=True)

    def continuation(self, tokenizer: Any) -> "Continuation":
        """Prompt and truth as one sequence."""
        head = self.prompt_ids(tokenizer)
        return Continuation(self.id, head + _encode(tokenizer, self.truth, special=False), len(head))


@dataclass(frozen=True)
class Pair:
    """A question and its answer.

    Parameters
    ----------
    id
        Name of the item.
    question, answer
        As text, without the words of the template.
    aliases
        Other answers that are as right.
    examples
        Questions and answers that are shown before it, in this order; of other documents than the question.
    paraphrase
        The answer in other words (TOFU's truth ratio).
    perturbed
        Wrong answers of the same form (TOFU's truth ratio and normalised probability).
    """

    id: str
    question: str
    answer: str
    aliases: tuple[str, ...] = ()
    examples: tuple[tuple[str, str], ...] = ()
    paraphrase: str = ""
    perturbed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Template:
    """How a question is put.

    Parameters
    ----------
    question
        Text with ``{question}`` in it. It ends without a space: many tokenizers make the space part of the word that
        follows, and a model asked with a space at the end meets tokens it was never trained on.
    answer
        Text with ``{answer}`` in it, which follows the question.
    separator
        Text between an example and what follows it.
    stops
        An answer ends before the first of these.
    closed
        Whether the end-of-sequence token counts as the last token of an answer that is scored (as in TOFU).
    """

    question: str = "Question: {question}\nAnswer:"
    answer: str = " {answer}"
    separator: str = "\n\n"
    stops: tuple[str, ...] = ("\n\n", "\nQuestion", "Question:")
    closed: bool = False

    def prompt(self, pair: Pair) -> str:
        """The examples and the question, up to where the answer begins."""
        shown = (self._asked(q) + self._answered(a) + self.separator for q, a in pair.examples)
        return "".join(shown) + self._asked(pair.question)

    def cut(self, output: str) -> str:
        """What of a model's output is the answer."""
        ends = [at for stop in self.stops if (at := output.find(stop)) >= 0]
        return output[: min(ends, default=len(output))]

    def prompt_ids(self, pair: Pair, tokenizer: Any) -> tuple[int, ...]:
        """Token ids of the prompt, with the special tokens that the tokenizer puts in front."""
        return _encode(tokenizer, self.prompt(pair), special=True)

    def continuation(self, pair: Pair, tokenizer: Any, answer: str | None = None) -> "Continuation":
        """Prompt and answer (another one than the pair's, if given) as one sequence."""
        head = self.prompt_ids(pair, tokenizer)
        tail = _encode(tokenizer, self._answered(pair.answer if answer is None else answer), special=False)
        if self.closed:
            tail = (*tail, int(tokenizer.eos_token_id))
        return Continuation(pair.id, head + tail, len(head))

    def _asked(self, question: str) -> str:
        return self.question.replace("{question}", question)

    def _answered(self, answer: str) -> str:
        return self.answer.replace("{answer}", answer)


MUSE_TEMPLATE = Template(question="Question: {question}\nAnswer: ", answer="{answer}")
"""The template of MUSE's code, whose prompt ends with a space."""


@dataclass(frozen=True)
class Continuation:
    """A sequence of which the tokens from ``start`` on are scored.

    Parameters
    ----------
    id
        Name of the item.
    ids
        Token ids.
    start
        Position of the first scored token, at least 1: nothing predicts the first token.
    """

    id: str
    ids: tuple[int, ...]
    start: int

    def __post_init__(self) -> None:
        if not 1 <= self.start < len(self.ids):
            message = (
                f"{self.id} has {len(self.ids)} tokens and is scored from token {self.start} on: there must be a token "
                "before the first scored one, and at least one that is scored. Leave the item out, or lengthen it."
            )
            raise InvalidArgument(Reason.METRIC_ITEMS_INVALID, message, metadata={"item": self.id})


def continuations(
    items: Iterable[Text | Prompt | Pair], tokenizer: Any, template: Template | None = None
) -> list[Continuation]:
    """Turn items into scored sequences: of a text every token but the first, else the truth or the answer."""
    template = template or Template()
    made = []
    for item in items:
        if isinstance(item, Text):
            made.append(Continuation(item.id, item.ids(tokenizer), 1))
        elif isinstance(item, Prompt):
            made.append(item.continuation(tokenizer))
        else:
            made.append(template.continuation(item, tokenizer))
    return made


def least(ids: Iterable[str], most: int) -> set[str]:
    """Choose at most so many ids: those with the least digests, which neither their order nor other ids change."""
    return set(sorted(ids, key=lambda name: hashlib.sha256(name.encode()).digest())[:most])


def require_items(items: Sequence[Text | Prompt | Pair | Continuation], what: str) -> None:
    """Check that there are items and that their ids are distinct.

    Raises
    ------
    InvalidArgument
        METRIC_ITEMS_INVALID.
    """
    ids = {item.id for item in items}
    if not items or len(ids) < len(items):
        message = (
            f"There are {len(items)} {what} with {len(ids)} distinct ids. Give at least one, each with an id of its "
            "own."
        )
        raise InvalidArgument(Reason.METRIC_ITEMS_INVALID, message)


def _encode(tokenizer: Any, text: str | tuple[int, ...], *, special: bool) -> tuple[int, ...]:
    if not isinstance(text, str):
        return tuple(text)
    with failing_as_model(private=True):
        return tuple(tokenizer.encode(text, add_special_tokens=special))
