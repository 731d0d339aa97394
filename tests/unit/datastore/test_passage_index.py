"""One contract for every place passage vectors are searched."""

from collections.abc import Iterator

import numpy as np
import pytest

from services.datastore.index.encoder import HashedWords
from services.datastore.index.passage_index import FaissIndex, PassageIndex
from services.datastore.index.qdrant_index import QdrantIndex
from services.datastore.search.passages import SearchMode, search
from services.datastore.store.builds import build, compact
from services.datastore.store.catalogue import CorpusCatalogue
from tests.unit.datastore.conftest import spec_for

DIM = 16


def unit(count: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(params=["faiss", "faiss-ivf", "qdrant"])
def index(request, tmp_path) -> Iterator[PassageIndex]:
    if request.param == "qdrant":
        from qdrant_client import QdrantClient

        client = QdrantClient(path=str(tmp_path / "qdrant"))
        # Another partition of the same collection must not be seen.
        QdrantIndex(client, "passages", "another", DIM).add(np.arange(50), unit(50, 9))
        yield QdrantIndex(client, "passages", "tenant/corpus/segment", DIM)
        client.close()
    else:
        yield FaissIndex.empty(DIM, exact_below=100 if request.param == "faiss-ivf" else 10_000)


def test_a_corpus_can_have_its_vectors_in_qdrant(tokenizer, make, tmp_path):
    from qdrant_client import QdrantClient

    client = QdrantClient(path=str(tmp_path / "qdrant"))
    catalogue = CorpusCatalogue(tmp_path / "corpora", qdrant=client)
    corpus = catalogue.create("me", spec_for(tokenizer)).corpus
    corpus.add([make(f"d{n}", b"the number %d stands here, alone" % n) for n in range(12)])
    build(corpus, HashedWords())

    def found() -> list[str]:
        vector = HashedWords().encode(["number 7 stands"])[0]
        return [
            h.source.document.head.document for h in search([corpus], "", [vector], 3, SearchMode.DENSE).hits
        ]

    assert "d7" in found()
    corpus.delete(["d7"])
    assert "d7" not in found()
    corpus.add([make("more", b"another document")])
    compact(corpus, HashedWords())
    build(corpus, HashedWords())
    assert "d7" not in found()
    count = client.count("palimpsest-passages-128").count
    assert count == sum(s.liveness.count for s in corpus.segments)
    catalogue.delete("me", "c")
    assert client.count("palimpsest-passages-128").count == 0
    client.close()


def test_nothing_is_in_an_empty_one(index):
    assert index.count() == 0
    assert len(index.search(unit(1)[0], 5).ids) == 0
    index.remove([3])


def test_what_is_added_is_found_best_first_and_what_is_removed_never_again(index):
    vectors = unit(600)
    index.add(np.arange(300), vectors[:300])
    index.add(np.arange(300, 600), vectors[300:])
    assert index.count() == 600
    for query in unit(5, seed=3):
        exact = vectors @ query
        hits = index.search(query, 10)
        assert len(hits.ids) == 10
        assert np.isin(hits.ids, np.argsort(-exact)[:12]).mean() >= 0.9
        assert hits.scores == pytest.approx(exact[hits.ids], abs=2e-3)
        assert list(hits.scores) == sorted(hits.scores, reverse=True)
    gone = np.arange(0, 600, 2)
    for part in np.array_split(gone, 4):
        index.remove(part)
    index.remove([0, 10_000])
    assert index.count() == 300
    hits = index.search(vectors[0], 600)
    assert len(hits.ids) == 300
    assert not np.isin(hits.ids, gone).any()
    assert len(index.search(vectors[0], 0).ids) == 0
