"""A corpus: versions, duplicates, segments, jobs that lose their corpus, damage, and bytes that must be gone."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from palimpsest.errors import (
    Aborted,
    Cancelled,
    DataLoss,
    NotFound,
    Reason,
)
from palimpsest.progress import NullProgress
from services.datastore.index.encoder import HashedWords
from services.datastore.ingest import IncomingDocument, add_batch, embed_some
from services.datastore.store import rewriting
from services.datastore.store.builds import build, compact
from services.datastore.store.corpus import Corpus
from services.datastore.store.documents import Document, characters_before
from services.datastore.store.keystore import KeyStore
from services.datastore.store.purge import purge
from services.datastore.store.segment import Segment
from tests.unit.datastore.texts import long_text, texts

ENCODER = HashedWords()


@pytest.mark.parametrize("sealed", [False, True])
def test_versions_go_up_and_the_old_ones_are_gone(corpus, make, sealed):
    first = corpus.add([make("a", b"first words of the fox")])[0]
    assert (first.version, first.changed) == (1, True)
    if sealed:
        build(corpus, ENCODER)
    same = corpus.add([make("a", b"first words of the fox")])[0]
    assert (same.version, same.changed) == (1, False)
    second = corpus.add([make("a", b"second words")])[0]
    assert (second.version, second.changed) == (2, True)
    assert second.epoch > first.epoch
    assert texts(corpus) == {"a": b"second words"}
    with pytest.raises(NotFound):
        corpus.find("a", 1)
    gone = corpus.delete(["a", "none"])
    assert [*gone] == ["a"]
    assert corpus.tombstone_version == gone["a"].tombstone_version
    if sealed:
        build(corpus, ENCODER)
        compact(corpus, ENCODER)
    assert corpus.add([make("a", b"second words")])[0].version == 3
    assert Corpus(corpus.folder).find("a").head.version == 3


def test_another_process_sees_what_this_one_does(corpus, make):
    other = Corpus(corpus.folder)
    corpus.add([make("a", b"text of a"), make("b", b"text of b")])
    assert other.find("a").head.document == "a"
    other.delete(["a"])
    with pytest.raises(NotFound):
        corpus.find("a")
    build(other, ENCODER)
    assert texts(corpus) == texts(other) == {"b": b"text of b"}
    assert corpus.view().epoch == other.view().epoch


def test_what_a_segment_holds_is_what_the_log_held(corpus, make):
    data = {
        "emoji": "zwj 👩‍👩‍👧 and \r\n café e\u0301 \ufeff العربية <|im_end|> ".encode() * 3,
        "nul": b"a\x00b" * 20,
        "same": b"a\x00b" * 20,
    }
    corpus.add([make(name, value, title="T " + name[:1]) for name, value in data.items()])
    before = {f.head.document: f.document for f in corpus.documents()}
    characters = {
        f.head.document: [f.part.characters(f.row, n) for n in range(f.document.passages)]
        for f in corpus.documents()
    }
    build(corpus, ENCODER)
    assert not corpus.unsealed_tokens
    for found in corpus.documents():
        was, now = before[found.head.document], found.document
        assert bytes(now.data) == data[found.head.document] == was.data
        assert now.head == was.head
        assert now.tokens.tolist() == was.tokens.tolist()
        assert now.starts.tolist() == was.starts.tolist()
        assert [found.part.characters(found.row, n) for n in range(now.passages)] == characters[
            found.head.document
        ]
        assert characters[found.head.document][1] == characters_before(
            was.data[: int(was.starts[was.span(1)[0]])]
        )
        assert isinstance(found.part, Segment)
        assert np.allclose(found.part.vectors(found.row), was.vectors)


def test_duplicates_have_one_entry_and_all_owners(corpus, make):
    corpus.add([make("a", long_text(1)), make("b", long_text(1)), make("c", long_text(2))])
    for _ in range(2):
        (part,) = [p for p in corpus.view().parts if p.entries]
        a, c = corpus.find("a").document, corpus.find("c").document
        assert part.entries == a.passages + c.passages
        owners = {part.head(row).document for row, _ in part.same(a.digest(0))}
        assert owners == {"a", "b"}
        build(corpus, ENCODER)
    corpus.delete(["a"])
    (part,) = [p for p in corpus.view().parts if p.entries]
    assert {part.head(row).document for row, _ in part.same(a.digest(0))} == {"b"}
    assert part.liveness.count == part.entries
    corpus.delete(["b"])
    assert part.liveness.count == c.passages


def test_deletions_during_a_build_hold_afterwards(corpus, make):
    corpus.add([make(f"d{n}", long_text(n)) for n in range(6)])
    build(corpus, ENCODER)
    corpus.add([make(f"e{n}", long_text(10 + n)) for n in range(6)])
    other = Corpus(corpus.folder)

    class Meddling(NullProgress):
        done = False

        def step(self, done, total, stage=""):
            if not self.done:
                self.done = True
                other.delete(["d1", "e1"])
                other.add([make("e2", b"replaced meanwhile"), make("new", b"added meanwhile")])

    build(corpus, ENCODER, Meddling())
    for each in (corpus, other, Corpus(corpus.folder)):
        found = texts(each)
        assert sorted(found) == ["d0", "d2", "d3", "d4", "d5", "e0", "e2", "e3", "e4", "e5", "new"]
        assert found["e2"] == b"replaced meanwhile"


def test_a_job_that_lost_the_corpus_publishes_nothing(corpus, make):
    corpus.add([make("a", long_text(1))])
    other = Corpus(corpus.folder)

    class Overtaken(NullProgress):
        def step(self, done, total, stage=""):
            if stage == "checking":
                build(other, ENCODER)

    with pytest.raises(Aborted) as lost:
        build(corpus, ENCODER, Overtaken())
    assert lost.value.reason == Reason.CORPUS_FENCED
    assert texts(corpus) == texts(other) == {"a": long_text(1)}
    assert len(list(corpus.folder.glob("seg-*"))) == 1


def test_a_calibration_outlives_jobs_and_begins_none(corpus, make):
    corpus.add([make("a", long_text(1))])

    class Meanwhile(NullProgress):
        def step(self, done, total, stage=""):
            if stage == "checking":
                Corpus(corpus.folder).calibrate({"mu": 2.5})

    build(corpus, ENCODER, Meanwhile())
    assert Corpus(corpus.folder).manifest.calibration == {"mu": 2.5}
    assert texts(corpus) == {"a": long_text(1)}


def test_too_much_outside_segments_is_refused_until_it_is_built(corpus, tokenizer):
    def incoming(name: str) -> IncomingDocument:
        found = IncomingDocument(name, 1000)
        found.append(b"some text that has its tokens")
        found.finish()
        return found

    assert [a.error for a in add_batch(corpus, [incoming("a")], tokenizer, ENCODER, 5)] == [None]
    (full,) = add_batch(corpus, [incoming("b")], tokenizer, ENCODER, 5)
    assert (full.error.reason, full.error.code.name) == (Reason.CORPUS_FULL, "RESOURCE_EXHAUSTED")
    assert full.error.retry_after
    build(corpus, ENCODER)
    assert [a.error for a in add_batch(corpus, [incoming("b")], tokenizer, ENCODER, 5)] == [None]


def test_a_cancelled_job_leaves_nothing(corpus, make):
    corpus.add([make("a", long_text(1))])

    class Stopped(NullProgress):
        def step(self, done, total, stage=""):
            if stage == "checking":
                raise Cancelled(Reason.JOB_CANCELLED, "enough")

    with pytest.raises(Cancelled):
        build(corpus, ENCODER, Stopped())
    assert not list(corpus.folder.glob("seg-*"))
    assert texts(corpus) == {"a": long_text(1)}
    assert build(corpus, ENCODER).documents == 1
    assert not (corpus.folder / "WAL-00000001.log").exists()


def test_compaction_merges_and_leaves_out_the_dead(corpus, make):
    for n in range(4):
        corpus.add([make(f"{n}-{m}", long_text(10 * n + m)) for m in range(3)])
        build(corpus, ENCODER)
    corpus.delete(["0-0", "1-1"])
    expected = texts(corpus)
    assert len(corpus.segments) == 4
    compact(corpus, ENCODER)
    assert len(corpus.segments) == 1
    assert not corpus.segments[0].deleted_rows
    assert texts(corpus) == texts(Corpus(corpus.folder)) == expected
    assert len(list(corpus.folder.glob("seg-*"))) == 1


@pytest.mark.parametrize(
    "name", ["docs.bin", "heads.bin", "tokens.npy", "vectors.npy", "suffixes.npy", "CHECKSUMS", "term.npy"]
)
def test_a_damaged_segment_is_left_out_and_said_so(corpus, make, name):
    corpus.add([make("a", long_text(1))])
    build(corpus, ENCODER)
    corpus.add([make("b", long_text(2))])
    path = corpus.segments[0].files.folder / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.unlink()
    path.write_bytes(data)
    again = Corpus(corpus.folder)
    assert again.view().quarantined == (corpus.segments[0].name,)
    assert texts(again) == {"b": long_text(2)}
    with pytest.raises(DataLoss) as lost:
        again.find("a")
    assert lost.value.reason == Reason.CORPUS_DAMAGED
    with pytest.raises(DataLoss):
        purge(again, ENCODER, KeyStore(again.folder / "keys", "m"))
    build(again, ENCODER)
    assert texts(again) == {"b": long_text(2)}
    assert again.view().quarantined


@pytest.mark.parametrize("name", ["CURRENT", "SPEC", "MANIFEST"])
def test_a_damaged_manifest_is_refused(corpus, name):
    (path,) = corpus.folder.glob(f"{name}*")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataLoss):
        Corpus(corpus.folder)


def _writer(folder: Path, name: str, documents: list[Document]) -> None:
    corpus = Corpus(folder)
    for document in documents:
        corpus.add([document])


def test_writers_of_several_processes_do_not_lose_each_others_documents(corpus, make):
    context = multiprocessing.get_context("fork")
    jobs = []
    for w in range(3):
        documents = [make(f"{w}-{n}", b"writer %d says %d" % (w, n)) for n in range(15)]
        jobs.append(context.Process(target=_writer, args=(corpus.folder, str(w), documents)))
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
        assert job.exitcode == 0
    assert len(texts(corpus)) == 45


def test_suffixes_are_found_in_live_documents_only(corpus, make):
    corpus.add([make("a", b"one two three four five six"), make("b", b"zero two three four seven")])
    for _ in range(2):
        (part,) = [p for p in corpus.view().parts if p.entries]
        context = corpus.find("a").document.tokens[:-2]
        length, found = part.suffix(np.asarray(context), 2, 32, 10)
        assert (length, len(found)) == (min(32, len(context)), 1)
        row, at = found[0]
        assert part.head(row).document == "a"
        assert at == len(context)
        build(corpus, ENCODER)
    corpus.delete(["a"])
    (part,) = [p for p in corpus.view().parts if p.entries]
    length, found = part.suffix(np.asarray(context), 1, 32, 10)
    assert all(part.head(row).document == "b" for row, _ in found)
    assert length < min(32, len(context))


def test_vectors_that_come_later_are_kept(corpus, make):
    corpus.add([make(f"d{n}", long_text(n), vectors=False) for n in range(4)])
    other = Corpus(corpus.folder)
    assert not [p for p in other.view().parts if len(p.dense(np.ones(128, np.float32), 9)[0])]
    corpus.delete(["d3"])
    while embed_some(corpus, ENCODER):
        pass
    for each in (corpus, other, Corpus(corpus.folder)):
        (part,) = [p for p in each.view().parts if p.entries]
        vector = ENCODER.encode([each.find("d1").document.embedded_text(0)])[0]
        entries, scores = part.dense(vector, 1000)
        assert part.owners(int(entries[0])) == [(1, 0)]
        assert scores[0] == pytest.approx(1, abs=1e-2)
        assert len(entries) == part.liveness.count
        assert not each.without_vectors(100, 100)

    class Never(HashedWords):
        def encode(self, texts, check=None):
            raise AssertionError("these have vectors")

    build(corpus, Never())


def test_builds_split_and_embed(corpus, make, monkeypatch):
    monkeypatch.setattr(rewriting, "_ENCODE_PASSAGES", 4)
    corpus.add([make(f"d{n}", long_text(n), vectors=n % 2 == 0) for n in range(8)])
    built = build(corpus, ENCODER, segment_tokens=1000)
    assert built.segments == len(corpus.segments) > 1
    for found in corpus.documents():
        document = found.document
        expected = ENCODER.encode([document.embedded_text(n) for n in range(document.passages)])
        assert np.allclose(found.part.vectors(found.row), expected, atol=1e-3)
