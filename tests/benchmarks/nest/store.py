"""The datastore on its own: passages found, adding and deleting, and a hundred thousand passages.

On the real stack, over gRPC. Where only sizes and times count, documents are of drawn words, for a tiny model and
an encoder that costs nothing; whether passages are found is measured with the sample's own.
"""

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import psutil

from palimpsest import Client
from palimpsest.api.datastore.v1 import datastore_pb2 as store
from palimpsest.client.corpora import NewDocument
from palimpsest.embedded.stack import Stack
from palimpsest.settings import Settings
from services.datastore.index.encoder import open_encoder
from services.datastore.index.passage_index import FaissIndex
from tests.benchmarks.biographies import SLOTS, people
from tests.benchmarks.decode import sample_model
from tests.benchmarks.figures import Figures, interleaved, percentile
from tests.tiny import write_tiny_model

SMALL, LARGE = 10_000, 100_000
PASSAGE = 32
QUESTIONS = 200
DOCUMENT_WORDS = 600
BATCH = 37
"""Documents added at once: about 5,000 passages."""
SECRET = "the combination is seven heron nineteen marble"

_ASKED = {
    "birth date": "When was {} born?",
    "job": "What trade did {} learn?",
    "city": "Which city did {} move to?",
    "years": "For how many years did {} work?",
    "medal year": "In which year did {} get a medal?",
}


@contextmanager
def stack(folder: Path) -> Iterator[tuple[Client, Stack]]:
    """The whole of it, with a tiny and the sample model."""
    settings = Settings(state_dir=folder / "state", redis_url="", listen="127.0.0.1:0", log_level="WARNING")
    with Stack(settings) as running, Client(running.target) as client:
        tiny = write_tiny_model(folder / "tiny")
        for name, path in (("tiny", tiny), ("sample", sample_model())):
            client.models.register_model(model_id=name, source=str(path)).result()
        yield client, running


def add(client: Client, corpus: str, documents: Iterator[NewDocument], *, defer: bool = True) -> None:
    """Add them all."""
    for answer in client.datastore.add(corpus, documents, defer_vectors=defer):
        assert not answer.HasField("error"), answer


def found(client: Client, figures: Figures) -> None:
    """Whether questions find the biography that answers them, in 8 passages, by each list and by both."""
    everyone = people()
    corpus = client.datastore.create_corpus(corpus_id="people", model="sample").name
    add(client, corpus, (NewDocument(p.name, p.text) for p in everyone), defer=False)
    share: dict[str, float] = {}
    for mode in ("HYBRID", "DENSE", "SPARSE"):
        hits = 0
        for n in range(QUESTIONS):
            person, slot = everyone[n % len(everyone)], SLOTS[n % len(SLOTS)]
            asked = _ASKED[slot].format(person.name)
            answer = client.datastore.search(corpora=[corpus], query=asked, limit=8, mode=mode)
            hits += any(hit.source.document == person.name for hit in answer.hits)
        share[mode] = hits / QUESTIONS
    figures.figure("hit@8", ", ".join(f"{mode.lower()} {value:.3f}" for mode, value in share.items()))
    figures.gate(f"hybrid hit@8, {QUESTIONS} questions", ">= 0.95", share["HYBRID"])


def nearest(figures: Figures, count: int = 60_000) -> None:
    """The approximate index against the exact one, on mixtures of the sample encoder's own vectors.

    To embed so many passages would take an hour. Each vector is a random mixture of those of three real texts and a
    little noise, so that the directions the encoder uses are those in which the vectors differ.
    """
    random = np.random.default_rng(3)
    texts = [p.text for p in people()] + [text[:400] for text in sorted(topics.values())]
    real = open_encoder("all-minilm-l6-v2", 2).encode(texts)
    shares = random.dirichlet((1.0, 0.6, 0.3), count + 64)[:, :, None]
    vectors = (real[random.integers(0, len(real), (count + 64, 3))] * shares).sum(1)
    vectors += 0.02 * random.standard_normal(vectors.shape)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    stored, queries = vectors[:count].astype(np.float16), vectors[count:]
    exact, quick = FaissIndex(stored, exact_below=count + 1), FaissIndex(stored, exact_below=1)
    for index in (exact, quick):
        index.search(queries[0], 100)
    truth = [set(exact.search(query, 100).ids.tolist()) for query in queries]
    hits = [
        len(best & set(quick.search(q, 100).ids.tolist())) for best, q in zip(truth, queries, strict=True)
    ]
    figures.gate(f"approximate recall@100 of {count}", ">= 0.97", sum(hits) / (100 * len(hits)))

    def all_of(index: FaissIndex) -> None:
        for query in queries:
            index.search(query, 100)

    seconds = interleaved({"exact": lambda: all_of(exact), "quick": lambda: all_of(quick)}, 5)
    figures.gate(
        f"approximate search over exact, {count} vectors", ">= 2", seconds["exact"] / seconds["quick"]
    )


class Peak:
    """The most that a process and its children hold, looked at every tenth of a second."""

    def __init__(self, pid: int) -> None:
        self._process, self.bytes = psutil.Process(pid), 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.1):
            held = 0
            for each in [self._process, *self._process.children(recursive=True)]:
                try:
                    held += each.memory_info().rss
                except psutil.Error:
                    continue
            self.bytes = max(self.bytes, held)


class Words:
    """Texts of words drawn as often as words are used."""

    def __init__(self) -> None:
        self._words = np.array(sorted({word for text in topics.values() for word in text.split()}))
        share = 1 / np.arange(1, len(self._words) + 1)
        self._share = share / share.sum()
        self._random = np.random.default_rng(5)

    def text(self, words: int = DOCUMENT_WORDS) -> str:
        """One of them."""
        return " ".join(self._random.choice(self._words, words, p=self._share))


def sized(client: Client, running: Stack, words: Words, name: str, passages: int, figures: Figures) -> str:
    """A corpus of at least so many passages, built by a job whose progress is looked at."""
    corpus = client.datastore.create_corpus(
        corpus_id=name, model="tiny", encoder="hashed-words", passage_tokens=PASSAGE
    ).name
    processes = {child.name: child.pid or 0 for child in running.status()}
    began, batch = time.perf_counter(), 0
    seen_states: set[tuple[str, float]] = set()
    with Peak(processes["worker"]) as peak, Peak(processes["server"]) as serving:
        while client.datastore.get_corpus(name=corpus).passage_count < passages:
            add(client, corpus, (NewDocument(f"{batch}-{n}", words.text()) for n in range(BATCH)))
            batch += 1
        job = client.datastore.build_index(corpus=corpus)
        seen_states |= {(seen.stage, seen.fraction) for seen in job}
        stored = job.result()
    figures.figure(
        f"{stored.passage_count} passages, {stored.token_count} tokens",
        f"{time.perf_counter() - began:.0f} s, {stored.size_bytes / 1e6:.0f} MB on disk, worker at most "
        f"{peak.bytes / 1e9:.2f} GB, server {serving.bytes / 1e9:.2f} GB",
    )
    if passages == LARGE:
        figures.gate(f"GB resident, building {passages} passages", "<= 4", peak.bytes / 1e9)
        figures.gate("states of its progress that the build job reported", ">= 3", len(seen_states))
    return corpus


def sizes(client: Client, running: Stack, figures: Figures) -> None:
    """Ten times the corpus: what adding and searching cost."""
    words = Words()
    small, large = (
        sized(client, running, words, name, size, figures)
        for name, size in (("small", SMALL), ("large", LARGE))
    )
    taken: dict[str, list[float]] = {small: [], large: []}
    for corpus in (small, large) * 100:
        began = time.perf_counter()
        client.datastore.search(corpora=[corpus], query=words.text(12))
        taken[corpus].append(time.perf_counter() - began)
    p95 = {corpus: percentile(seconds[5:], 0.95) for corpus, seconds in taken.items()}
    figures.figure("search p95, ms", f"small {1e3 * p95[small]:.1f}, large {1e3 * p95[large]:.1f}")
    figures.gate(f"search p95, {LARGE} passages / {SMALL}", "<= 3", p95[large] / p95[small])
    number, visible = 0, []

    def one(corpus: str) -> float:
        nonlocal number
        number += 1
        text = f"zyzzyva{number} {words.text(100)}"
        began = time.perf_counter()
        add(client, corpus, iter([NewDocument(f"new-{number}", text)]), defer=False)
        took = time.perf_counter() - began
        hits = client.datastore.search(corpora=[corpus], query=f"zyzzyva{number}", limit=3).hits
        assert f"new-{number}" in [hit.source.document for hit in hits]
        visible.append(time.perf_counter() - began)
        return took

    seconds = interleaved({corpus: (lambda c=corpus: one(c)) for corpus in (small, large)}, 15)
    figures.gate("seconds until an added document is found, worst", "<= 1", max(visible))
    figures.gate(
        "cost of adding one document, ten times the corpus", "<= 1.5", seconds[large] / seconds[small]
    )
    forgotten(client, running, words, small, figures)


def forgotten(client: Client, running: Stack, words: Words, corpus: str, figures: Figures) -> None:
    """A deleted document: found no more when the call returns, and on no disk after the purge."""
    texts = {f"secret-{n}": f"{words.text(80)} {SECRET} {n} {words.text(80)}" for n in range(5)}
    add(client, corpus, (NewDocument(n, t) for n, t in texts.items()), defer=False)
    client.datastore.build_index(corpus=corpus).result()
    client.datastore.delete_documents(corpus=corpus, documents=list(texts))
    hits = client.datastore.search(corpora=[corpus], query=SECRET, limit=50).hits
    figures.gate(
        "uses of a deleted document after the call", "== 0", sum(h.source.document in texts for h in hits)
    )
    receipt = client.datastore.purge(corpus=corpus).result()
    folder = running.settings.state_dir / "corpora"
    holding = [p for p in folder.rglob("*") if p.is_file() and SECRET.encode() in p.read_bytes()]
    figures.figure(
        "purge receipt", f"{receipt.purged_count} purged, {receipt.scanned_bytes / 1e6:.0f} MB scanned"
    )
    figures.gate("files with the secret after the purge", "== 0", len(holding))
    assert isinstance(receipt, store.PurgeReceipt)


def measure(figures: Figures) -> None:
    """Everything of the datastore's own."""
    nearest(figures)
    with tempfile.TemporaryDirectory() as folder, stack(Path(folder)) as (client, running):
        found(client, figures)
        sizes(client, running, figures)


def main() -> None:
    """Measure and write."""
    figures = Figures("nest_store")
    measure(figures)
    figures.write()


if __name__ == "__main__":
    main()
