"""The collector takes what nobody needs, and nothing else, whatever happens at the same moment."""

import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from palimpsest.artifacts import CHUNK_BYTES, References, UploadSpec
from palimpsest.errors import Aborted, Cancelled, FailedPrecondition, PalimpsestError, Unavailable
from palimpsest.progress import NullProgress
from tests.waiting import until


def put_all(store, count):
    return [store.put_bytes(b"artefact %d" % i).digest for i in range(count)]


def test_takes_what_nobody_needs(any_store):
    kept, pinned, gone = put_all(any_store, 3)
    any_store.references.add("job/1", [kept])
    any_store.references.add("pin/a", [pinned])
    sizes = any_store.stat(gone).size_bytes
    dry = any_store.collect(0, dry_run=True)
    assert any_store.missing([kept, pinned, gone]) == []
    real = any_store.collect(0)
    assert (real.deleted, real.kept, real.freed_bytes) == (1, 2, sizes)
    assert dry == real
    assert any_store.missing([kept, pinned, gone]) == [gone]
    any_store.references.remove_owner("job/1")
    any_store.references.remove_owner("pin/a")
    assert any_store.collect(0).deleted == 2


def test_young_ones_stay(any_store):
    digest = any_store.put_bytes(b"abc").digest
    assert any_store.collect(3600).kept == 1
    assert any_store.collect().kept == 1, "the setting's grace time is a day"
    assert any_store.missing([digest]) == []


def test_leaves_no_keys_and_no_files(store, client, redis_prefix):
    store.put_bytes(random.Random(0).randbytes(2 * CHUNK_BYTES))
    store.collect(0)
    assert client.keys(f"{redis_prefix}*") == []
    assert [path for path in Path(store._objects.root).rglob("*") if path.is_file()] == []


def test_leftovers_of_the_dead(store, client, redis_prefix):
    root = Path(store._objects.root)
    damaged = store.put_bytes(b"damaged").digest
    blob = next((root / "blobs").rglob("*/*"))
    blob.write_bytes(b"damage!")
    with pytest.raises(PalimpsestError):
        store.read_bytes(damaged)
    orphan = root / "blobs" / "00" / ("0" * 64)
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"no sidecar")
    (root / "staging" / "alive").write_bytes(b"whole")
    (root / "staging" / "dead").write_bytes(b"half")
    os.utime(root / "staging" / "dead", (1, 1))
    with store.uploads.open("u", UploadSpec()) as upload:
        upload.write(0, b"abc")
    assert store.collect(3600).freed_bytes == len(b"half")
    collected = store.collect(0)
    assert collected.deleted == 0
    assert collected.freed_bytes >= len(b"damage!") + len(b"no sidecar") + len(b"abc")
    assert [path.name for path in root.rglob("*") if path.is_file()] == ["alive"]
    assert client.keys(f"{redis_prefix}*") == []


def test_reference_is_refused_during_deletion(store):
    digest = store.put_bytes(b"abc").digest
    with store.references.collected(digest):
        with pytest.raises(Aborted):
            store.references.add("job/1", [digest])
        with pytest.raises(FailedPrecondition):
            store.delete(digest)
    store.references.add("job/1", [digest])
    with pytest.raises(FailedPrecondition), store.references.collected(digest):
        pass


def test_references_are_added_all_or_none(store):
    one, two = put_all(store, 2)
    with store.references.collected(two), pytest.raises(Aborted):
        store.references.add("job/1", [one, two])
    assert store.references.owners(one) == []
    assert store.references.remove_owner("job/1") == 0


def test_storing_waits_for_a_deletion(store):
    digest = store.put_bytes(b"abc").digest
    stored = []
    writer = threading.Thread(target=lambda: stored.append(store.put_bytes(b"abc")))
    with store.references.collected(digest):
        writer.start()
        until(lambda: any(store._objects.staging.iterdir()))
        assert stored == []
    writer.join(30)
    assert stored[0].digest == digest


def test_marks_of_a_dead_collector_are_lifted(store, client, redis_prefix):
    one, two = put_all(store, 2)
    client.sadd(f"{redis_prefix}collecting", one, two)
    store.references.add("job/1", [one])
    assert store.references.owners(one) == ["job/1"]
    store.collect(3600)
    assert client.smembers(f"{redis_prefix}collecting") == set()
    store.references.add("job/1", [two])


def test_references_of_dead_writers_are_dropped(store):
    digest = store.put_bytes(b"abc").digest
    store.references.add(f"write/{int(time.time()) - 200_000}-dead", [digest])
    store.references.add(f"write/{int(time.time())}-alive", [store.put_bytes(b"def").digest])
    assert store.collect(0).deleted == 1
    assert store.missing([digest]) == [digest]


def test_stored_anew_after_being_chosen(store):
    """Its age is read again once it is marked: here it is renewed between the two."""
    digest = store.put_bytes(b"abc").digest

    class Renewing(NullProgress):
        def step(self, done: int, total: int, stage: str = "") -> None:
            store.put_bytes(b"abc")

    assert store.collect(0, progress=Renewing()).deleted == 0
    assert store.read_bytes(digest) == b"abc"


def test_cancelled_collection(store):
    put_all(store, 5)

    class Cancelling(NullProgress):
        def step(self, done: int, total: int, stage: str = "") -> None:
            if done == 2:
                raise Cancelled("JOB_CANCELLED", "stop")

    with pytest.raises(Cancelled):
        store.collect(0, progress=Cancelling())
    assert len(store.list()[0]) == 3


def test_races(make_store):
    """Writers, referrers and two collectors at once: whoever holds a reference can read what it names."""
    store = make_store()
    contents = [b"content %d" % i for i in range(6)]
    ends, failures = threading.Event(), []

    def refer(seed: int) -> None:
        rng = random.Random(seed)
        mine = make_store()
        for round_ in range(60):
            content = rng.choice(contents)
            owner = f"job/{seed}-{round_}"
            digest = mine.put_bytes(content).digest
            try:
                mine.references.add(owner, [digest])
            except Aborted:
                continue
            # A collector with no grace time may have been faster: then there is nothing to refer to.
            if not mine.missing([digest]) and mine.read_bytes(digest) != content:
                failures.append(digest)
            if not mine.missing([digest]):
                for _ in range(3):
                    if mine.missing([digest]):
                        failures.append(f"{digest} vanished under {owner}")
            mine.references.remove_owner(owner)

    def collect() -> None:
        mine = make_store()
        while not ends.is_set():
            mine.collect(0)

    with ThreadPoolExecutor(5) as pool:
        collectors = [pool.submit(collect) for _ in range(2)]
        try:
            for worker in [pool.submit(refer, seed) for seed in range(3)]:
                worker.result()
        finally:
            ends.set()
        for collector in collectors:
            collector.result()
    assert failures == []
    store.collect(0)
    assert store.list() == ([], "")


def test_redis_away(make_store, tmp_path):
    away = redis.Redis(unix_socket_path=str(tmp_path / "nothing.sock"), retry=None)
    references = References(away, "p:")
    for ask in (
        lambda: references.owners("x"),
        lambda: references.add("job/1", ["x"]),
        lambda: references.sweep(0),
    ):
        with pytest.raises(Unavailable):
            ask()


def test_old_uploads_expire_with_the_sweep(store):
    with store.uploads.open("u", UploadSpec()) as upload:
        upload.write(0, b"abc")
    folder = next(store.uploads._folder.iterdir())
    for file in folder.iterdir():
        os.utime(file, (1, 1))
    assert store.collect(3600).freed_bytes >= 3
    assert not folder.exists()
