"""The data sets of a request: artefacts in JSON Lines, read once, line by line, into memory."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import Field, ValidationError

from palimpsest import json_input
from palimpsest.artifacts import ArtifactStore
from palimpsest.errors import InvalidArgument, Reason
from palimpsest.training.batches import Example
from services.unlearning.corpora.files import LARGEST_LINE, bad_line, problems
from services.unlearning.corpora.records import Question, Row
from services.unlearning.metrics.items import Pair, Template, Text
from services.unlearning.removal.datasets.packing import PackedExamples
from services.unlearning.splits import Half, half_of

LARGEST_SET = 256 << 20
"""Most bytes of one data set."""
MOST_EXAMPLES = 1 << 18
MOST_TOKENS = 16 << 20
"""Most sequences of one data set, and most tokens of all of them: a server that also serves holds them in memory."""


_ID = Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")
"""Ids are shown, in one line each."""


class _Question(Question):
    """A question as requests have it."""

    id: str = _ID


class _Document(Row):
    """A document as requests have it: of the data set's own lines, what is for something else may be left out."""

    id: str = _ID
    text: str = Field(min_length=1)
    domain: str = ""
    subject: tuple[str, ...] = Field((), strict=False)
    split: str = ""
    meta: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class DataSet:
    """Documents and questions of one artefact; ids are unique over both.

    Attributes
    ----------
    field
        The plan's field that names it, for messages.
    artifact
        Its digest.
    about
        Ids of the documents that questions are about, by the questions' ids.
    paraphrases
        Of questions that have some, the other forms.
    """

    field: str
    artifact: str
    documents: tuple[Text, ...]
    questions: tuple[Pair, ...]
    about: Mapping[str, str] = dataclasses.field(default_factory=dict)
    paraphrases: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def half(self, half: Half) -> "DataSet":
        """Return what is in one of the halves; a question is in that of its document."""
        documents = tuple(each for each in self.documents if half_of(each.id) == half)
        questions = tuple(each for each in self.questions if half_of(self.group(each.id)) == half)
        return replace(self, documents=documents, questions=questions)

    def group(self, name: str) -> str:
        """What decides the half of an entry: its own id, or that of the document that a question is about."""
        return self.about.get(name, name)

    def require_halves(self) -> None:
        """Check that there is something of each kind in both halves.

        Raises
        ------
        InvalidArgument
            SPLIT_EMPTY.
        """
        for kind, entries in (("documents", self.documents), ("questions", self.questions)):
            if entries and len({half_of(self.group(each.id)) for each in entries}) < 2:
                message = (
                    f"All {len(entries)} {kind} of {self.field} are in one half, and a search needs some to tune on "
                    "and others to certify with. Use more of them, or no search."
                )
                raise InvalidArgument.field(Reason.SPLIT_EMPTY, f"plan.{self.field}", message)

    @property
    def count(self) -> int:
        """Number of entries."""
        return len(self.documents) + len(self.questions)

    def texts(self) -> Iterator[tuple[str, str, str]]:
        """Yield id, kind and content of each entry."""
        for document in self.documents:
            yield document.id, "document", str(document.text)
        for pair in self.questions:
            yield pair.id, "question", f"{pair.question}\n{pair.answer}"


@dataclass(frozen=True)
class EncodedSet:
    """A data set as a model reads it.

    Attributes
    ----------
    examples
        Sequences to train on, each named by its entry, and made when it is asked for.
    tokens
        Of each entry, by id, special tokens included.
    """

    source: DataSet
    examples: Sequence[Example]
    tokens: dict[str, int]

    def half(self, half: Half) -> "EncodedSet":
        """Return what is in one of the halves."""
        source = self.source.half(half)
        names = {each.id for each in (*source.documents, *source.questions)}
        return EncodedSet(
            source,
            tuple(each for each in self.examples if each.name in names),
            {name: count for name, count in self.tokens.items() if name in names},
        )

    @property
    def total(self) -> int:
        """Tokens of all entries."""
        return sum(self.tokens.values())


def read_set(artifacts: ArtifactStore, digest: str, field: str) -> DataSet:
    """Read a data set.

    Raises
    ------
    InvalidArgument
        DATASET_LINE_INVALID: a line is neither a document nor a question, or its id is another's too.
        DATASET_INVALID: it is too large, or has more entries than a request may have sequences.
    NotFound, DataLoss
        The artefact is gone or damaged.
    """
    size = artifacts.stat(digest).size_bytes
    if size > LARGEST_SET:
        message = f"{field} has {size} bytes, and a data set may have {LARGEST_SET}. Split it into several requests."
        raise InvalidArgument.field(Reason.DATASET_INVALID, field, message)
    documents: list[Text] = []
    questions: list[Pair] = []
    about: dict[str, str] = {}
    paraphrases: dict[str, tuple[str, ...]] = {}
    known: set[str] = set()
    with artifacts.open(digest) as file:
        for number, line in enumerate(iter(lambda: file.readline(LARGEST_LINE + 1), b""), 1):
            if not line.strip():
                continue
            entry = _entry(line, number, field)
            if entry.id in known:
                raise bad_line(field, number, "its id is that of an earlier line")
            known.add(entry.id)
            _require_room(field, len(known), 0)  # each entry makes one sequence at least
            if isinstance(entry, _Document):
                documents.append(Text(entry.id, entry.text))
                continue
            questions.append(Pair(entry.id, entry.question, entry.answer, entry.aliases))
            if entry.doc_id:
                about[entry.id] = entry.doc_id
            if entry.paraphrases:
                paraphrases[entry.id] = entry.paraphrases
    return DataSet(field, digest, tuple(documents), tuple(questions), about, paraphrases)


def encode_set(found: DataSet, tokenizer: Any, longest: int) -> EncodedSet:
    """Turn a data set into sequences of at most ``longest`` tokens.

    Longer documents are cut, each piece beginning with the last token of the one before, so that every token but the
    first is predicted once. Of a question only the answer counts.

    Raises
    ------
    InvalidArgument
        DATASET_INVALID: a document of one token, a question that is longer than a sequence, or more sequences or tokens
        than a request may have.
    """
    examples = PackedExamples()
    tokens: dict[str, int] = {}
    total = 0
    for document in found.documents:
        ids = document.ids(tokenizer)
        if len(ids) < 2:
            raise _unusable(found.field, document.id, "has too few tokens to be predicted")
        tokens[document.id] = len(ids)
        total += len(ids)
        _require_room(found.field, len(examples) + -(-(len(ids) - 1) // (longest - 1)), total)
        for start in range(0, len(ids) - 1, longest - 1):
            examples.append(ids[start : start + longest], 0, document.id)
    template = Template()
    for pair in found.questions:
        asked = template.continuation(pair, tokenizer)
        if len(asked.ids) > longest:
            raise _unusable(found.field, pair.id, f"has {len(asked.ids)} tokens, and a sequence {longest}")
        tokens[pair.id] = len(asked.ids)
        total += len(asked.ids)
        _require_room(found.field, len(examples) + 1, total)
        examples.append(asked.ids, asked.start, pair.id)
    return EncodedSet(found, examples, tokens)


def manifest_of(encoded: EncodedSet, salt: str) -> bytes:
    """The list of what is to be removed: JSON lines with ids, token counts and salted digests, in the order of ids.

    The salt keeps whoever sees a digest, but not the manifest, from confirming a guessed text.
    """
    lines = [{"salt": salt}]
    for name, kind, text in sorted(encoded.source.texts()):
        digest = hashlib.sha256(f"{salt}\n{kind}\n{text}".encode()).hexdigest()
        lines.append({"id": name, "kind": kind, "tokens": encoded.tokens[name], "sha256": digest})  # type: ignore[dict-item]
    return "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines).encode()


def _entry(line: bytes, number: int, field: str) -> _Document | _Question:
    kind: type[_Question | _Document] = _Document
    try:
        found = json_input.decode(line, max_bytes=LARGEST_LINE)
        if isinstance(found, dict) and "question" in found:
            kind = _Question
        return kind.model_validate(found)
    except (json_input.InvalidJson, ValidationError) as error:
        raise bad_line(field, number, problems(error, kind)) from None


def _require_room(field: str, examples: int, tokens: int) -> None:
    if examples > MOST_EXAMPLES or tokens > MOST_TOKENS:
        message = (
            f"{field} has more than {MOST_EXAMPLES} sequences or {MOST_TOKENS} tokens. Allow longer sequences, or "
            "split it into several requests."
        )
        raise InvalidArgument.field(Reason.DATASET_INVALID, field, message)


def _unusable(field: str, name: str, what: str) -> InvalidArgument:
    message = f"The entry {name!r} of {field} {what}. Leave it out, or allow longer sequences."
    return InvalidArgument.field(Reason.DATASET_INVALID, field, message, id=name)
