"""Generated data sets: reproducible, disjoint, matched, and whole."""

import hashlib
import re
from random import Random

import pytest
from scipy.stats import ks_2samp

from palimpsest.errors import InvalidArgument, Reason
from services.unlearning.corpora import (
    Corpus,
    Document,
    Sizes,
    build_books,
    build_generic,
    build_news,
    encode_rows,
)
from services.unlearning.corpora.building import cut
from services.unlearning.corpora.checks import lengths, require_disjoint, require_matched
from services.unlearning.corpora.names import Names, Realm, realm_of

SIZES = Sizes(forget=40, retain1=50, retain2=20, holdout=30, icl=10, folds=4)
BUILDERS = {"news": build_news, "books": build_books}
WORD = re.compile(r"\w+")


@pytest.fixture(scope="module", params=BUILDERS)
def corpus(request) -> Corpus:
    return BUILDERS[request.param](3, SIZES)


def invented(documents):
    return {word for document in documents for word in document.meta["words"]}


def test_splits_have_the_sizes_asked_for(corpus):
    for split in ("forget", "retain1", "retain2", "holdout", "icl"):
        assert len(corpus.split(split)) == getattr(SIZES, split)
    assert len({document.id for document in corpus.documents}) == sum((40, 50, 20, 30, 10))


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not():
    digests = {
        (name, seed): hashlib.sha256(encode_rows(build(seed, SIZES).documents)).hexdigest()
        for name, build in BUILDERS.items()
        for seed in (3, 4)
    }
    assert len(set(digests.values())) == 4
    for name, build in BUILDERS.items():
        assert hashlib.sha256(encode_rows(build(3, SIZES).documents)).hexdigest() == digests[name, 3]


def test_news_splits_share_no_invented_word_with_any_other_text():
    corpus = build_news(3, SIZES)
    for split in ("forget", "retain1", "retain2", "holdout", "icl"):
        own = invented(corpus.split(split))
        others = [document for document in corpus.documents if document.split != split]
        used = {word for document in others for word in WORD.findall(document.text)}
        assert len(own) > 30
        assert not own & used


def test_novels_share_their_world_with_the_pages_and_nothing_with_the_holdout():
    corpus = build_books(3, SIZES)
    forget, pages = (invented(corpus.split(split)) for split in ("forget", "retain1"))
    assert len(forget & pages) > 20
    elsewhere = invented(corpus.split("holdout")) | invented(corpus.split("icl"))
    used = {
        word
        for document in corpus.documents
        if document.split in ("forget", "retain1", "retain2")
        for word in WORD.findall(document.text)
    }
    assert not elsewhere & used


def test_characters_come_back_in_the_chapters_of_a_novel():
    corpus = build_books(3, SIZES)
    chapters: dict[str, list[Document]] = {}
    for document in corpus.split("forget"):
        chapters.setdefault(document.work, []).append(document)
    assert {len(each) for each in chapters.values()} == {SIZES.chapters}
    for novel in chapters.values():
        assert [document.text.split()[:2] for document in novel] == [["Chapter", str(n)] for n in range(1, 6)]
        people = [name for document in novel for name in document.subject[1:]]
        assert len(set(people)) < len(people)


def test_every_answer_is_a_verbatim_span_of_its_document_and_of_no_other(corpus):
    texts = {document.id: document.text for document in corpus.documents}
    for split in ("forget", "retain1", "retain2"):
        rows = corpus.questions[split]
        assert len(rows) == 4 * len(corpus.split(split))
        assert len(corpus.trained(split)) == 3 * len(corpus.split(split))
        assert len({row.answer for row in rows}) == len(rows)
        for row in rows:
            assert row.answer in texts[row.doc_id]
            assert len({row.question, *row.paraphrases}) == 3
    icl = corpus.questions["icl"]
    assert [row.doc_id for row in icl] == [document.id for document in corpus.split("icl")]


def test_lengths_of_forget_and_holdout_are_matched(corpus):
    forget, holdout = (lengths(each.text for each in corpus.excerpts[s]) for s in ("forget", "holdout"))
    p = ks_2samp(forget, holdout).pvalue
    assert p > 0.1
    assert require_matched(forget, holdout) == pytest.approx(p)
    with pytest.raises(InvalidArgument) as raised:
        require_matched(forget, [length + 20 for length in holdout])
    assert raised.value.reason == Reason.DATASET_LENGTHS_DIFFER


def test_folds_are_whole_works_and_nested_ones_grow(corpus):
    disjoint = [corpus.disjoint(k) for k in range(1, 5)]
    assert [len(fold) for fold in disjoint] == [10] * 4
    assert [document for fold in disjoint for document in fold] == list(corpus.split("forget"))
    works = [{document.work for document in fold} for fold in disjoint]
    assert sum(map(len, works)) == len(set().union(*works))
    for k in range(1, 5):
        assert corpus.nested(k) == tuple(document for fold in disjoint[:k] for document in fold)
    asked = corpus.questions_of(disjoint[1])
    assert {row.doc_id for row in asked} == {document.id for document in disjoint[1]}


def test_prompts_and_continuations_are_the_document(corpus):
    texts = {document.id: document.text for document in corpus.documents}
    for row in (*corpus.verbatim["forget"], *corpus.verbatim["retain2"]):
        text = texts[row.doc_id]
        assert text.startswith(row.prompt)
        assert " ".join(text.split()).startswith(" ".join(f"{row.prompt} {row.gt}".split()))
        assert len(row.gt.split()) >= 20
    short = Document(id="a", split="forget", text="one two\n three")
    assert (cut(short).prompt, cut(short).gt) == ("one", "two\n three")
    with pytest.raises(InvalidArgument):
        cut(Document(id="a", split="forget", text="one"))


def test_a_name_that_is_in_two_splits_is_found(corpus):
    stranger = corpus.split("holdout")[0]
    word = corpus.split("forget")[0].meta["words"][0]
    documents = tuple(
        each.model_copy(update={"text": f"{each.text} {word}!"}) if each is stranger else each
        for each in corpus.documents
    )
    changed = Corpus(documents, corpus.questions, corpus.verbatim, corpus.excerpts)
    with pytest.raises(InvalidArgument) as raised:
        require_disjoint(changed)
    assert raised.value.reason == Reason.DATASET_SPLITS_OVERLAP
    assert raised.value.metadata["word"] == word


@pytest.mark.parametrize(
    "sizes",
    [
        Sizes(forget=0),
        Sizes(forget=10, folds=4),
        Sizes(holdout=3, forget=10),
        Sizes(forget=20, folds=10),
        Sizes(filler_range=(3, 2)),
    ],
)
def test_sizes_that_cannot_be_made_are_refused(sizes):
    with pytest.raises(InvalidArgument) as raised:
        build_books(1, sizes)
    assert raised.value.reason == Reason.DATASET_SIZES


def test_the_generic_corpus_has_all_genres_and_no_name_of_any_data_set():
    generic = build_generic(3, documents=60, unseen=9)
    assert (len(generic.documents), len(generic.unseen)) == (60, 9)
    assert len(generic.pairs()) == 60 * 3 + 2 * 60 * 3 // 4
    for documents in (generic.documents, generic.unseen):
        assert sum(document.text.startswith("Chapter ") for document in documents) == len(documents) // 3
        assert sum(" town." in document.text.split(". ")[0] + "." for document in documents) >= 3
    read = {word for d in (*generic.documents, *generic.unseen) for word in WORD.findall(d.text)}
    for build in BUILDERS.values():
        assert not read & invented(build(3, SIZES).documents)


def test_a_name_comes_once_and_is_of_its_realm():
    names = Names(Realm.AUTHORS, Random(5))
    words = [word for _ in range(3000) for word in names.entity("award").words]
    assert len(set(words)) == 3000
    assert {realm_of(word) for word in words} == {Realm.AUTHORS}
    assert {realm_of(word) for word in invented(build_news(3, SIZES).documents)} == {Realm.NEWS}
