"""A corpus on a disk that is full at every page its changes need: a change is made whole, or not at all."""

from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import numpy as np
import pytest

from palimpsest.disk import is_full
from services.datastore.files import verify_checksums
from services.datastore.index.encoder import HashedWords
from services.datastore.index.passage_index import FaissIndex
from services.datastore.store.builds import build, compact
from services.datastore.store.catalogue import CorpusCatalogue
from services.datastore.store.corpus import Corpus
from services.datastore.store.keystore import KeyBlock, KeyStore
from services.datastore.store.purge import purge
from tests.disks import PAGE, SmallDisk, small_disk
from tests.unit.datastore.conftest import Maker, spec_for
from tests.unit.datastore.texts import long_text, texts

ENCODER = HashedWords()
Change = Callable[[Corpus, Maker], object]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 4) as disk:
        yield disk


def refused_until_there_is_room(
    disk: SmallDisk, change: Callable[[], object], whole: Callable[[], None]
) -> int:
    """Try a change with one page more each time; check after each refusal. Returns how many there were."""
    for pages in range(500):
        disk.fill(pages * PAGE)
        try:
            change()
            return pages
        except Exception as error:
            if not is_full(error):
                raise
        finally:
            disk.empty()
        whole()
    raise AssertionError("never enough room")


def replace(corpus: Corpus, make: Maker) -> None:
    corpus.add([make("b", long_text(5, 300))])


CHANGES: dict[str, tuple[Change, set[str]]] = {
    "add": (lambda c, make: c.add([make("new", long_text(9, 300))]), {"a", "b", "new"}),
    "replace": (replace, {"a", "b"}),
    "delete": (lambda c, make: c.delete(["a"]), {"b"}),
    "build": (lambda c, make: build(c, ENCODER), {"a", "b"}),
    "compact": (lambda c, make: compact(c, ENCODER), {"a", "b"}),
    "purge": (lambda c, make: purge(c, ENCODER, KeyStore(c.folder / "keys", "sha256:m")), {"a", "b"}),
    "calibrate": (lambda c, make: c.calibrate({"x" * 5000: 1.0}), {"a", "b"}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_made_whole_or_not_at_all(name: str, disk: SmallDisk, make: Maker, tokenizer):
    folder = disk.root / "c"
    folder.mkdir()
    corpus = Corpus.create(folder, spec_for(tokenizer))
    corpus.add([make("a", b"text of a"), make("b", b"text of b")])
    if name in ("compact", "purge"):
        for number in range(2):
            corpus.add([make(f"more-{number}", long_text(number))])
            build(corpus, ENCODER)
        corpus.delete(["more-0", "more-1"])
    before = texts(corpus)
    assert set(before) == {"a", "b"}
    change, after = CHANGES[name]

    def whole() -> None:
        for seen in (corpus, Corpus(folder)):
            seen.refresh()
            assert texts(seen) == before
            assert (seen.lost_records, seen._state.damage) == (0, {})
        named = {entry.name for entry in corpus.manifest.segments}
        assert {path.name for path in folder.glob("seg-*")} == named
        assert not list(folder.rglob("*.partial"))

    assert refused_until_there_is_room(disk, lambda: change(corpus, make), whole) > 0
    again = Corpus(folder)
    assert set(texts(again)) == set(texts(corpus)) == after
    assert (again.lost_records, again._state.damage) == (0, {})
    for segment in again.segments:
        verify_checksums(folder / segment.name)


def test_a_corpus_is_created_whole_or_not_at_all(disk: SmallDisk, tokenizer):
    catalogue = CorpusCatalogue(disk.root / "corpora")
    spec = spec_for(tokenizer)

    def whole() -> None:
        assert catalogue.ids("ann") == []
        assert disk.content() == set()

    assert refused_until_there_is_room(disk, lambda: catalogue.create("ann", spec), whole) > 0
    assert catalogue.ids("ann") == ["c"]
    catalogue.close()


def test_keys_that_do_not_fit_leave_nothing(disk: SmallDisk):
    keys = KeyStore(disk.root / "keys", "sha256:m")
    block = KeyBlock(np.ones((40, 256), np.int8), np.ones(40, np.float32), np.ones(40, np.float32))

    def whole() -> None:
        assert disk.content() == set()
        assert keys.get(b"d" * 16, 40) is None

    assert refused_until_there_is_room(disk, lambda: keys.put(b"d" * 16, block, "sha256:m"), whole) > 0
    found = keys.get(b"d" * 16, 40)
    assert found is not None
    assert np.array_equal(found.keys, block.keys)


def test_an_index_of_vectors_never_ends_early_without_a_word(disk: SmallDisk):
    vectors = np.random.default_rng(0).standard_normal((700, 32)).astype(np.float16)
    path = disk.root / "passages.faiss"
    index = FaissIndex(vectors, exact_below=100)
    assert (
        refused_until_there_is_room(disk, lambda: index.save(path), lambda: path.unlink(missing_ok=True)) > 1
    )
    assert path.stat().st_size == len(faiss.serialize_index(index._index))
    FaissIndex(vectors, exact_below=100).load(path)
