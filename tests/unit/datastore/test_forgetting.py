"""What is deleted leaves the disk, and what is kept for speed leaves when there is no room."""

import os

import numpy as np
import pytest

from palimpsest.errors import (
    Aborted,
    FailedPrecondition,
    InvalidArgument,
    Reason,
)
from services.datastore.index.encoder import HashedWords
from services.datastore.store.builds import build
from services.datastore.store.corpus import Corpus
from services.datastore.store.keystore import KeyBlock, KeyStore
from services.datastore.store.purge import purge
from tests.unit.datastore.texts import long_text, texts

ENCODER = HashedWords()


def secret(n: int) -> bytes:
    return b"The secret number %d is %s, and nobody may know it any more. " % (n, long_text(99 + n, 8))


@pytest.mark.parametrize("sealed", [False, True])
def test_purging_leaves_no_byte(corpus, make, sealed, tmp_path):
    shared = b"This sentence stands in both of the documents, word for word, and so it may stay. "
    gone = [
        make("gone", secret(1) * 3 + shared),
        make("short", b"only 23 bytes of text.."),
        make("tiny", b"tiny"),
    ]
    corpus.add(
        [*gone, make("stays", shared + long_text(5), title="A title that is long enough to be looked for")]
    )
    if sealed:
        build(corpus, ENCODER)
    corpus.add([make("replaced", secret(2) * 2)])
    corpus.add([make("replaced", b"harmless by now, but not short")])
    corpus.delete(["gone", "short", "tiny"])
    keys = KeyStore(corpus.folder / "keys", "m")
    block = KeyBlock(np.ones((3, 4), np.int8), np.ones(3, np.float32), np.ones(3, np.float32))
    keys.put(gone[0].digest(0), block, "m")
    stays = corpus.find("stays").document.digest(0)
    keys.put(stays, block, "m")

    def grep(needle: bytes) -> list[str]:
        return [p.name for p in corpus.folder.rglob("*") if p.is_file() and needle in p.read_bytes()]

    assert grep(secret(1)[:40])
    receipt = purge(corpus, ENCODER, keys)
    assert {(h.document, h.version) for h in receipt.documents} == {
        ("gone", 1),
        ("short", 1),
        ("tiny", 1),
        ("replaced", 1),
    }
    assert receipt.shingles > 200
    assert receipt.unproven == 1
    assert receipt.key_blocks == 1
    assert keys.has(stays)
    assert not grep(secret(1)[4:36])
    assert not grep(secret(2)[4:36])
    assert not grep(b"only 23 bytes of text")
    tokens = np.asarray(gone[0].tokens[:16])
    assert not grep(tokens.astype("<u2").tobytes())
    assert not grep(tokens.astype("<u4").tobytes())
    assert grep(shared)
    assert sorted(texts(Corpus(corpus.folder))) == ["replaced", "stays"]


def test_what_meets_by_chance_is_no_remainder(corpus, make):
    line = b"=" * 31
    corpus.add([make("1", line), make("2", b"<" + long_text(1)), make("gone", line + b"<" + long_text(2))])
    build(corpus, ENCODER)
    corpus.delete(["gone"])
    assert purge(corpus, ENCODER, KeyStore(corpus.folder / "keys", "m")).shingles > 100


def test_the_scanner_finds_what_was_left(corpus, make):
    corpus.add([make("gone", secret(1)), make("stays", long_text(3))])
    corpus.delete(["gone"])
    (corpus.folder / "forgotten.tmp").write_bytes(bytes(3_000_000) + secret(1)[5:40])
    with pytest.raises(Aborted) as left:
        purge(corpus, ENCODER, KeyStore(corpus.folder / "keys", "m"))
    assert left.value.reason == Reason.PURGE_INCOMPLETE
    assert left.value.metadata["file"] == "forgotten.tmp"
    assert 2_999_990 < int(left.value.metadata["offset"]) < 3_000_010


def test_keys_are_kept_by_tokens_and_model_and_the_least_used_go(tmp_path):
    def block(n: int) -> KeyBlock:
        random = np.random.default_rng(n)
        return KeyBlock(
            random.integers(-9, 9, (8, 16), np.int8),
            random.random(8, np.float32),
            random.random(8, np.float32),
        )

    store = KeyStore(tmp_path / "keys", "model", limit=5 * 8 * 24 + 5 * 48)
    for n in range(5):
        store.put(bytes([n]) * 16, block(n), "model")
        for path in (tmp_path / "keys").rglob(f"{bytes([n]).hex()}*.keys"):
            os.utime(path, (n, n))  # put long ago, in this order
    found = store.get(bytes(16), 8)  # and so it is the one used last
    assert all(np.array_equal(a, b) for a, b in zip(found, block(0), strict=True))
    store.put(b"x" * 16, block(9), "model")
    assert store.has(bytes(16))
    assert not store.has(bytes([1]) * 16)
    assert store.size <= 5 * 8 * 24 + 5 * 48
    assert store.get(bytes(16), 7) is None, "another number of tokens: not these"
    with pytest.raises(FailedPrecondition):
        store.put(b"y" * 16, block(1), "another model")
    assert KeyStore(tmp_path / "keys", "another model").get(b"x" * 16, 8) is None
    bad = block(1)._replace(scales=np.full(8, np.nan, np.float32))
    with pytest.raises(InvalidArgument):
        store.put(b"z" * 16, bad, "model")
    path = store._path(b"x" * 16)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert store.get(b"x" * 16, 8) is None
    assert not store.has(b"x" * 16)
