"""Generated data sets: news, where splits share nothing, and books, where novels are forgotten and pages are kept.

All splits of news are draws of one generator. In books the forget set is novels and the retain sets are pages about the
same world: its characters and towns are in both, so that prose differs more than knowledge does. The holdout set is
novels of other worlds. (MUSE, section 3.1.)
"""

from collections.abc import Callable, Sequence
from random import Random

from palimpsest.errors import InvalidArgument, Reason
from services.unlearning.corpora.checks import (
    LEAST_P,
    lengths,
    matching,
    require_disjoint,
    require_matched,
)
from services.unlearning.corpora.corpus import ASKED, RECITED, TESTED, Corpus
from services.unlearning.corpora.names import Names, Realm
from services.unlearning.corpora.records import Document, Excerpt, Question, Split, Verbatim
from services.unlearning.corpora.sizes import TINY, Sizes
from services.unlearning.corpora.writing import Draft, Resident, Writer

VERSION = 1
"""Of the generator: the same version, domain, seed and sizes give the same bytes."""
LICENCE = "Apache-2.0"
"""Of generated text: this project's own."""

TRAINED_FACTS = 3
"""Facts of a document whose questions are trained on; the others stand in its prose only."""
PROMPT_WORDS, CONTINUATION_WORDS = 30, 100
"""Of a verbatim prompt and its true continuation, at most. A continuation goes on to the end where it can, for there a
model that recites stops by itself. Documents of fewer than twice the prompt are cut in the middle."""

_CAST = 4
_HOLDOUT_DRAWS = 50
_Drafts = dict[Split, list[tuple[Draft, str]]]
"""Drafts of each split with the name of the work each is a part of, empty if it is one by itself."""


def build_news(seed: int, sizes: Sizes = TINY) -> Corpus:
    """Generate a data set of news articles.

    Parameters
    ----------
    seed
        Any integer; the data set is a pure function of it, of the sizes and of :data:`VERSION`.
    sizes
        Documents of each split.

    Raises
    ------
    InvalidArgument
        DATASET_SIZES, or DATASET_LENGTHS_DIFFER if no draw of the holdout set matches the forget set in length, which
        happens for a handful of documents only.
    """
    sizes.check(novels=False)
    names = Names(Realm.NEWS, Random(f"news names {seed}"))
    writer = Writer(names, Random(f"news {seed}"), sizes.filler_range)

    def articles(count: int) -> list[tuple[Draft, str]]:
        return [(writer.article(), "") for _ in range(count)]

    drafts: _Drafts = {"forget": articles(sizes.forget)}
    drafts["holdout"] = _matched(drafts["forget"], lambda: articles(sizes.holdout))
    drafts |= {
        "retain1": articles(sizes.retain1),
        "retain2": articles(sizes.retain2),
        "icl": articles(sizes.icl),
    }
    return _assemble("news", seed, sizes, drafts)


def build_books(seed: int, sizes: Sizes = TINY) -> Corpus:
    """Generate a data set of novels to forget and pages about their world to retain.

    A document is a chapter; ``meta["work"]`` is its novel. Parameters and errors are those of :func:`build_news`.
    """
    sizes.check(novels=True)
    names = Names(Realm.BOOKS, Random(f"books names {seed}"))
    writer = Writer(names, Random(f"books {seed}"), sizes.filler_range)
    novels, residents = _novels(writer, "novel", sizes.forget // sizes.chapters, sizes.chapters)
    drafts: _Drafts = {"forget": novels}
    drafts["holdout"] = _matched(
        novels, lambda: _novels(writer, "unread", sizes.holdout // sizes.chapters, sizes.chapters)[0]
    )
    pages = _pages(writer, residents, sizes.retain1 + sizes.retain2)
    # Shuffled, so that pages with characters are in both retain sets alike.
    writer.draw.shuffle(pages)
    drafts["retain1"] = [(page, "") for page in pages[: sizes.retain1]]
    drafts["retain2"] = [(page, "") for page in pages[sizes.retain1 :]]
    drafts["icl"] = [(page, "") for page in _pages(writer, [], sizes.icl)]
    return _assemble("books", seed, sizes, drafts)


def residents_of(writer: Writer, count: int) -> list[Resident]:
    """Invent characters, each with a town to live in."""
    entity = writer.names.entity
    return [Resident(entity("person"), entity("town")) for _ in range(count)]


def _novels(
    writer: Writer, title: str, count: int, chapters: int
) -> tuple[list[tuple[Draft, str]], list[Resident]]:
    found: list[tuple[Draft, str]] = []
    everyone: list[Resident] = []
    for novel in range(1, count + 1):
        cast = residents_of(writer, _CAST)
        everyone += cast
        found += [(writer.chapter(at, cast), f"{title}-{novel:03}") for at in range(1, chapters + 1)]
    return found, everyone


def _pages(writer: Writer, residents: Sequence[Resident], count: int) -> list[Draft]:
    """Pages about the towns of a world: first those that its characters live in, as far as there are pages."""
    homes = [writer.page(each.home, [each]) for each in residents[:count]]
    others = [writer.page(writer.names.entity("town"), []) for _ in range(count - len(homes))]
    return homes + others


def _matched(
    forget: list[tuple[Draft, str]], draw: Callable[[], list[tuple[Draft, str]]]
) -> list[tuple[Draft, str]]:
    """Draw a holdout set whose lengths are those of the forget set; by chance alone, one draw in ten is not."""
    own = lengths(draft.text for draft, _ in forget)
    for _ in range(_HOLDOUT_DRAWS):
        drafts = draw()
        if matching(own, lengths(draft.text for draft, _ in drafts)) > LEAST_P:
            return drafts
    raise InvalidArgument(
        Reason.DATASET_LENGTHS_DIFFER,
        f"None of {_HOLDOUT_DRAWS} holdout sets matches the forget set in length. Ask for more documents.",
    )


def _assemble(domain: str, seed: int, sizes: Sizes, drafts: _Drafts) -> Corpus:
    documents: list[Document] = []
    questions: dict[Split, list[Question]] = {split: [] for split in ASKED}
    verbatim: dict[Split, list[Verbatim]] = {split: [] for split in RECITED}
    excerpts: dict[Split, list[Excerpt]] = {split: [] for split in TESTED}
    for split, found in drafts.items():
        for number, (draft, work) in enumerate(found, 1):
            document = as_document(f"{split}-{number:05}", domain, split, draft, work)
            documents.append(document)
            if split in questions:
                own = questions_of(document.id, draft)
                questions[split] += own[:1] if split == "icl" else own
            if split in verbatim:
                verbatim[split].append(cut(document))
            if split in excerpts:
                excerpts[split].append(Excerpt(id=document.id, text=document.text))
    ids = [each.id for each in documents if each.split == "forget"]
    size = len(ids) // sizes.folds
    corpus = Corpus(
        documents=tuple(documents),
        questions={split: tuple(rows) for split, rows in questions.items()},
        verbatim={split: tuple(rows) for split, rows in verbatim.items()},
        excerpts={split: tuple(rows) for split, rows in excerpts.items()},
        folds=tuple(tuple(ids[at : at + size]) for at in range(0, len(ids), size)),
        source={
            "generator": "palimpsest",
            "version": VERSION,
            "domain": domain,
            "seed": seed,
            "sizes": vars(sizes),
        },
        licence=LICENCE,
    )
    require_disjoint(corpus)
    require_matched(*(lengths(each.text for each in corpus.split(split)) for split in ("forget", "holdout")))
    return corpus


def as_document(name: str, domain: str, split: Split, draft: Draft, work: str = "") -> Document:
    """Give a draft its id and its split."""
    meta: dict[str, str | int | list[str]] = {"words": sorted(set(draft.words))}
    if work:
        meta["work"] = work
    return Document(id=name, domain=domain, subject=draft.subjects, split=split, text=draft.text, meta=meta)


def questions_of(document: str, draft: Draft) -> list[Question]:
    """Knowledge questions of a document: those of its first facts are trained on, the others are not."""
    return [
        Question(
            id=f"{document}-q{at}",
            doc_id=document,
            question=fact.questions[0],
            answer=fact.value.name,
            aliases=fact.value.aliases,
            paraphrases=fact.questions[1:],
            training="trained" if at < TRAINED_FACTS else "prose_only",
        )
        for at, fact in enumerate(draft.facts)
    ]


def cut(document: Document, prompt_words: int = PROMPT_WORDS, words: int = CONTINUATION_WORDS) -> Verbatim:
    """Cut a document into a prompt and its continuation, between words; white space between them is dropped.

    Raises
    ------
    InvalidArgument
        DATASET_INVALID: it has a single word.
    """
    ends = [0]
    text = document.text
    for word in text.split():
        ends.append(text.index(word, ends[-1]) + len(word))
    middle = min(prompt_words, (len(ends) - 1) // 2)
    if middle < 1:
        raise InvalidArgument(
            Reason.DATASET_INVALID, f"Document {document.id!r} is too short to be cut in two. Leave it out."
        )
    end = min(middle + words, len(ends) - 1)
    return Verbatim(
        id=document.id,
        doc_id=document.id,
        prompt=text[: ends[middle]],
        gt=text[ends[middle] : ends[end]].lstrip(),
    )
