"""The lines of a data set's files: what each may contain. Keys that are not listed are refused."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Split = Literal["forget", "retain1", "retain2", "holdout", "icl"]
"""What a document is for.

``forget`` is to be removed. ``retain1`` regularises removal; ``retain2`` is evaluated on, and shown to nothing else
after the target is trained. No model sees ``holdout``. ``icl`` gives the examples before a question.
"""

_Names = Field((), strict=False)
"""JSON has lists only, which become tuples."""


class Row(BaseModel):
    """One line of a JSON Lines file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Document(Row):
    """A text.

    Attributes
    ----------
    id
        Unique in the data set.
    domain
        "news", "books", or whatever else the text is.
    subject
        Names of those it is about: a removal request may select by them.
    meta
        Further facts. The generator gives the invented words ("words"), and for chapters the novel ("work").
    """

    id: str = Field(min_length=1, max_length=200)
    domain: str = Field(default="", max_length=64)
    subject: tuple[str, ...] = _Names
    split: Split
    text: str = Field(min_length=1)
    meta: dict[str, str | int | list[str]] = Field(default_factory=dict)

    @property
    def work(self) -> str:
        """What it is a part of: a chapter's novel; otherwise itself."""
        return str(self.meta.get("work", self.id))


class Question(Row):
    """A knowledge question.

    Attributes
    ----------
    doc_id
        The document that answers it; empty for imported questions, whose document is not known.
    aliases
        Other right answers.
    paraphrases
        Other forms of the question, which are not trained on.
    training
        "trained": the pair is a training sequence of its own. "prose_only": the fact stands in the document and
        nowhere else; small models do not answer these, so no gate counts them.
    """

    id: str = Field(min_length=1, max_length=200)
    doc_id: str = Field(default="", max_length=200)
    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    aliases: tuple[str, ...] = _Names
    paraphrases: tuple[str, ...] = _Names
    training: Literal["trained", "prose_only"] = "trained"


class Verbatim(Row):
    """A prompt of verbatim memorisation and its true continuation, both cut out of a document."""

    id: str = Field(min_length=1, max_length=200)
    doc_id: str = Field(default="", max_length=200)
    prompt: str = Field(min_length=1)
    gt: str = Field(min_length=1)


class Excerpt(Row):
    """A text whose membership in the training data is tested."""

    id: str = Field(min_length=1, max_length=200)
    text: str = Field(min_length=1)


class AuthorPair(Row):
    """A question about an invented author, with what truth ratios need (TOFU, section 2.2).

    Attributes
    ----------
    answer
        A whole sentence.
    paraphrased_answer
        The same in other words.
    perturbed_answers
        The paraphrase with wrong values.
    """

    id: str = Field(min_length=1, max_length=200)
    author: str = Field(default="", max_length=200)
    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    paraphrased_question: str = ""
    paraphrased_answer: str = ""
    perturbed_answers: tuple[str, ...] = _Names
