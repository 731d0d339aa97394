"""A data set as a folder: what is written is read again, and what is not right is named."""

import hashlib
import json

import pytest

from palimpsest.errors import InvalidArgument, Reason
from services.unlearning.corpora import (
    Corpus,
    Document,
    Question,
    Sizes,
    build_books,
    build_news,
    decode_rows,
    read_corpus,
    write_corpus,
)

SIZES = Sizes(forget=20, retain1=10, retain2=5, holdout=20, icl=3, folds=2)


@pytest.fixture
def folder(tmp_path):
    write_corpus(build_news(1, SIZES), tmp_path / "set")
    return tmp_path / "set"


@pytest.mark.parametrize("build", [build_news, build_books])
def test_what_is_written_is_read_again(build, tmp_path):
    corpus = build(2, SIZES)
    write_corpus(corpus, tmp_path)
    again = read_corpus(tmp_path)
    assert again.documents == corpus.documents
    assert again.questions == corpus.questions
    assert again.verbatim == corpus.verbatim
    assert again.excerpts == corpus.excerpts
    assert again.folds == corpus.folds
    assert again.source["seed"] == 2


def test_the_manifest_counts_and_digests_every_file(folder):
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    assert manifest["licence"]
    assert manifest["source"] == {
        "generator": "palimpsest",
        "version": 1,
        "domain": "news",
        "seed": 1,
        "sizes": vars(SIZES) | {"filler_range": [2, 4]},
    }
    written = {str(path.relative_to(folder)) for path in folder.rglob("*.jsonl")}
    assert written == set(manifest["files"])
    assert {"scal/fold_2.jsonl", "sust/fold_2.jsonl", "knowmem_icl.jsonl", "privleak_holdout.jsonl"} < written
    for name, entry in manifest["files"].items():
        data = (folder / name).read_bytes()
        assert entry["sha256"] == hashlib.sha256(data).hexdigest()
        assert entry["rows"] == data.count(b"\n")
    lines = [json.loads(line) for line in (folder / "privleak_forget.jsonl").read_text().splitlines()]
    assert manifest["files"]["privleak_forget.jsonl"]["words"] == sum(len(x["text"].split()) for x in lines)


def test_a_changed_or_missing_file_is_named(folder):
    path = folder / "verbmem_forget.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'prompt": "', b'prompt": "X', 1))
    with pytest.raises(InvalidArgument, match=r"verbmem_forget\.jsonl is not the file") as raised:
        read_corpus(folder)
    assert raised.value.reason == Reason.DATASET_INVALID
    path.unlink()
    with pytest.raises(InvalidArgument, match=r"verbmem_forget\.jsonl is missing"):
        read_corpus(folder)
    (folder / "MANIFEST.json").unlink()
    with pytest.raises(InvalidArgument, match=r"MANIFEST\.json is missing"):
        read_corpus(folder)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"id": "b", "split": "forget", "text": "x", "secret": 1}', "a key other than id, "),
        ('{"id": "b", "split": "test", "text": "x"}', "split: Input should be"),
        ('{"id": "b", "split": "forget"}', "text: Field required"),
        ('{"id": "b", "split": "forget", "text": 5}', "text: Input should be a valid string"),
        ('{"id": "b", "split": "forget", "text": "x", "text": "y"}', "twice"),
        ('{"id": "b", "split": "forget", "text": "\\ud800"}', "surrogate"),
        ('{"id": "b", "split": "forget", "text": "x", "meta": {"a": 0.5}}', "meta: Input should be"),
        ("[1]", "the row"),
        ("{", "Expecting"),
    ],
)
def test_a_bad_line_is_named_with_what_is_wrong(line, problem):
    data = '{"id": "a", "split": "forget", "text": "fine"}\n\n' + line + "\n"
    with pytest.raises(InvalidArgument) as raised:
        decode_rows(data.encode(), Document, "docs.jsonl")
    assert raised.value.reason == Reason.DATASET_LINE_INVALID
    assert raised.value.metadata == {"file": "docs.jsonl", "line": "3"}
    assert "Line 3 of docs.jsonl" in raised.value.message
    assert problem in raised.value.message


def test_the_text_of_a_bad_line_is_not_repeated():
    for wrong in (
        {"subject": "a dreadful secret"},
        {"a dreadful secret": 1},
        {"meta": {"a dreadful secret": 0.5}},
    ):
        line = json.dumps({"id": "a", "split": "forget", "text": "fine", **wrong})
        with pytest.raises(InvalidArgument) as raised:
            decode_rows(line.encode(), Document, "docs.jsonl")
        assert "dreadful" not in str(raised.value)


def test_rows_that_do_not_fit_each_other_are_refused():
    document = Document(id="a", split="forget", text="x")
    question = Question(id="q", doc_id="a", question="?", answer="!")
    assert Corpus((document,), {"forget": (question,)}, {}, {}).trained("forget") == (question,)
    for documents, questions, folds in (
        ((document, document), {}, ()),
        ((document,), {"forget": (question, question)}, ()),
        ((document,), {"retain2": (question,)}, ()),
        ((), {"forget": (question,)}, ()),
        ((document,), {}, (("b",),)),
        ((document,), {}, (("a",), ("a",))),
    ):
        with pytest.raises(InvalidArgument) as raised:
            Corpus(documents, questions, {}, {}, folds)
        assert raised.value.reason == Reason.DATASET_INVALID
