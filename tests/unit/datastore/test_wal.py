"""The log of a corpus under cuts and flips: what was acknowledged is there or reported, and nothing comes back."""

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.datastore.store.corpus import Corpus
from services.datastore.store.manifest import log_name, tomb_name
from services.datastore.store.wal import Kind, LogFile, Record, scan
from tests.unit.datastore.conftest import spec_for

RECORDS = [Record(n, Kind.ADD if n % 3 else Kind.DELETE, bytes([n]) * (n * 7 % 40)) for n in range(1, 12)]
BYTES = b"".join(r.to_bytes() for r in RECORDS)


@given(cut=st.integers(0, len(BYTES)))
def test_a_cut_log_holds_what_was_whole(cut):
    found = scan(BYTES[:cut])
    assert found.records == RECORDS[: len(found.records)]
    assert not found.damaged
    ends = [len(b"".join(r.to_bytes() for r in RECORDS[:n])) for n in range(len(RECORDS) + 1)]
    assert found.end == max(e for e in ends if e <= cut)


@given(at=st.integers(0, len(BYTES) - 1), mask=st.integers(1, 255))
def test_a_flipped_byte_loses_one_record_and_no_other(at, mask):
    data = bytearray(BYTES)
    data[at] ^= mask
    found = scan(bytes(data))
    lost = [r for r in RECORDS if r not in found.records]
    assert len(lost) == 1
    assert [r for r in RECORDS if r in found.records] == found.records
    # The last one might have been a write that a crash cut short; the rest is known to be damage.
    assert bool(found.damaged) is (lost != RECORDS[-1:])


def test_rot_in_the_last_record_is_told_from_a_torn_write(tmp_path: Path):
    path = tmp_path / "WAL-1.log"
    LogFile.create(path)
    log = LogFile(path)
    log.append(RECORDS)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    again = LogFile(path)
    found = again.read_on()
    assert found.records == RECORDS[:-1]
    assert len(found.damaged) == 1
    again.append([Record(20, Kind.ADD, b"goes on")])
    last = LogFile(path).read_on()
    assert last.records[-1] == Record(20, Kind.ADD, b"goes on")
    assert len(last.damaged) == 1


def test_a_torn_tail_is_overwritten(tmp_path: Path):
    path = tmp_path / "WAL-1.log"
    LogFile.create(path)
    LogFile(path).append(RECORDS[:3])
    with open(path, "ab") as file:
        file.write(RECORDS[3].to_bytes()[:-1])
    log = LogFile(path)
    assert log.read_on().records == RECORDS[:3]
    log.append(RECORDS[4:6])
    found = LogFile(path).read_on()
    assert found.records == [*RECORDS[:3], *RECORDS[4:6]]
    assert not found.damaged


@pytest.fixture(scope="module")
def history(tmp_path_factory, tokenizer, make):
    """A corpus with adds, a replacement and deletions in its log, and where the log stood after each."""
    folder = tmp_path_factory.mktemp("history") / "c"
    folder.mkdir()
    corpus = Corpus.create(folder, spec_for(tokenizer))
    states: list[tuple[int, dict[str, bytes]]] = [(0, {})]

    def note():
        size = (folder / log_name(1)).stat().st_size
        states.append((size, {f.head.document: bytes(f.document.data) for f in corpus.documents()}))

    for n in range(5):
        corpus.add([make(f"d{n}", b"document %d says the quick brown fox" % n)])
        note()
    corpus.delete(["d1"])
    note()
    corpus.add([make("d2", b"another text of the same name")])
    note()
    corpus.delete(["d0", "d2"])
    note()
    corpus.add([make("d5", b"the last"), make("d0", b"new bytes under an old name")])
    note()
    corpus.close()
    return folder, states


def opened(folder: Path, scratch: Path, name: str, change) -> Corpus:
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(folder, scratch)
    data = bytearray((scratch / name).read_bytes())
    (scratch / name).write_bytes(change(data))
    return Corpus(scratch)


SLOW = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SLOW
@given(data=st.data())
def test_wherever_a_crash_cuts_the_log_the_corpus_opens_to_a_state_it_had(history, tmp_path, data):
    folder, states = history
    size = (folder / log_name(1)).stat().st_size
    cut = data.draw(st.integers(0, size))
    scratch = tmp_path / "cut"
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(folder, scratch)
    # A crash during a write: nothing later was acknowledged, and the second copy comes after the first.
    (scratch / log_name(1)).with_suffix(".acked").unlink()
    acknowledged = [s for s in states if s[0] <= cut][-1]
    at = states.index(acknowledged)
    (scratch / log_name(1)).write_bytes((folder / log_name(1)).read_bytes()[:cut])
    tombs = (folder / tomb_name(1)).read_bytes()
    last = scan((folder / log_name(1)).read_bytes()[: acknowledged[0]]).records[-1:]
    epoch = last[0].epoch if last else 0
    kept = b"".join(r.to_bytes() for r in scan(tombs).records if r.epoch <= epoch)
    (scratch / tomb_name(1)).write_bytes(kept)
    (scratch / tomb_name(1)).with_suffix(".acked").unlink()
    corpus = Corpus(scratch)
    found = {f.head.document: bytes(f.document.data) for f in corpus.documents()}
    # One write of several documents may be there in part: none of it was acknowledged.
    missing = [d for d in acknowledged[1] if found.get(d) != acknowledged[1][d]]
    later = states[at + 1][1] if at + 1 < len(states) else {}
    assert all(found.get(d) == later.get(d) for d in missing)
    assert all(found[d] in (acknowledged[1].get(d), later.get(d)) for d in found)
    corpus.close()


@SLOW
@given(data=st.data())
def test_a_flipped_byte_loses_no_other_document_and_brings_none_back(history, tmp_path, data):
    folder, states = history
    name = data.draw(st.sampled_from([log_name(1), tomb_name(1)]))
    at = data.draw(st.integers(0, (folder / name).stat().st_size - 1))
    mask = data.draw(st.integers(1, 255))
    corpus = opened(folder, tmp_path / "flip", name, lambda d: d[:at] + bytes([d[at] ^ mask]) + d[at + 1 :])
    final = states[-1][1]
    found = {f.head.document: bytes(f.document.data) for f in corpus.documents()}
    assert all(found[d] == final.get(d) for d in found), "a deleted or replaced document is back"
    missing = final.keys() - found.keys()
    assert len(missing) <= 1
    if missing:
        from palimpsest.errors import DataLoss

        assert corpus.view().lost == 1
        with pytest.raises(DataLoss):
            corpus.find(missing.pop())
    corpus.close()
