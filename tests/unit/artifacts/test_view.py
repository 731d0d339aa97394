"""What one principal may know of a store that others use too."""

import hashlib

import pytest

from palimpsest.artifacts import ArtifactStore, ArtifactView, UploadSpec
from palimpsest.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound, Reason


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def upload(view: ArtifactView, data: bytes, upload_id: str = "u") -> str:
    with view.open_upload(upload_id, UploadSpec()) as session:
        session.write(0, data)
        return session.finish().digest


@pytest.fixture
def ann(any_store: ArtifactStore) -> ArtifactView:
    return ArtifactView(any_store, "ann")


@pytest.fixture
def bob(any_store: ArtifactStore) -> ArtifactView:
    return ArtifactView(any_store, "bob")


def test_what_another_holds_is_not_there_in_the_same_words(ann, bob):
    theirs, none = upload(ann, b"secret"), digest_of(b"never stored")
    for look in (bob.stat, bob.chunks, bob.delete):
        with pytest.raises(NotFound) as other:
            look(theirs)
        with pytest.raises(NotFound) as missing:
            look(none)
        assert str(other.value).replace(theirs, none) == str(missing.value)
        assert other.value.reason == missing.value.reason == Reason.ARTIFACT_NOT_FOUND
    assert bob.missing([theirs, none]) == [theirs, none]
    assert ann.missing([theirs, none]) == [none]
    assert bob.list() == ([], "")
    assert [info.digest for info in ann.list()[0]] == [theirs]
    assert b"".join(ann.chunks(theirs)) == b"secret"


def test_a_damaged_artefact_is_damaged_to_its_holder_alone(any_store, ann, bob):
    digest = upload(ann, b"whole")
    any_store._objects.remove(f"blobs/{digest[7:9]}/{digest[7:]}")
    with pytest.raises(DataLoss):
        list(ann.chunks(digest))
    with pytest.raises(DataLoss):
        ann.stat(digest)
    with pytest.raises(NotFound):
        bob.stat(digest)


def test_a_guessed_digest_does_not_spare_an_upload(any_store, ann, bob):
    data = b"a form letter with a guessable number"
    digest = upload(ann, data)
    with bob.open_upload("guess", UploadSpec(digest=digest)) as session:
        assert session.artifact is None
    assert bob.upload_status("guess").artifact is None
    with bob.open_upload("guess", UploadSpec(digest=digest)) as session:
        session.write(0, b"a wrong guess")
        with pytest.raises(DataLoss) as wrong:
            session.finish()
        assert wrong.value.reason == Reason.DIGEST_MISMATCH
    assert bob.missing([digest]) == [digest]
    with bob.open_upload("guess", UploadSpec(digest=digest)) as session:
        session.write(0, data)
        assert session.finish().digest == digest
    assert bob.upload_status("guess").artifact.digest == digest
    assert b"".join(bob.chunks(digest)) == data
    with bob.open_upload("again", UploadSpec(digest=digest)) as session:
        assert session.artifact is not None  # bob has sent these bytes before


def test_bytes_go_with_their_last_holder(any_store, ann, bob):
    digest = upload(ann, b"shared")
    assert upload(bob, b"shared") == digest
    ann.delete(digest)
    with pytest.raises(NotFound):
        ann.stat(digest)
    assert ann.upload_status("u").artifact is None  # that bob still has them is not for ann to know
    assert b"".join(bob.chunks(digest)) == b"shared"
    bob.delete(digest)
    assert any_store.find(digest) is None
    assert any_store.references.holders.of("bob") == {}
    assert upload(ann, b"shared", "anew") == digest


def test_a_reference_of_another_neither_shows_nor_stops_a_deletion(any_store, ann, bob):
    digest = upload(ann, b"needed")
    upload(bob, b"needed")
    any_store.references.add("context/bob/secret-name/1", [digest], "bob")
    any_store.references.add("pin/the-operators", [digest])
    assert ann.owners(digest) == []
    assert bob.owners(digest) == ["context/bob/secret-name/1"]
    ann.delete(digest)
    with pytest.raises(NotFound):
        ann.stat(digest)
    with pytest.raises(FailedPrecondition) as used:
        bob.delete(digest)
    assert used.value.metadata["owners"] == "context/bob/secret-name/1"
    any_store.references.remove_owner("context/bob/secret-name/1")
    assert bob.owners(digest) == []
    bob.delete(digest)
    assert any_store.find(digest) is not None  # pinned


def test_neither_times_nor_media_types_nor_the_order_of_lists_tell_of_another_holder(any_store, ann, bob):
    with ann.open_upload("first", UploadSpec(media_type="text/x-anns")) as session:
        session.write(0, b"twin")
        before = session.finish()
    upload(ann, b"later", "second")
    listed = ann.list()
    with bob.open_upload("plain", UploadSpec()) as session:
        session.write(0, b"twin")
        assert session.finish().media_type == "application/octet-stream"
    with bob.open_upload("named", UploadSpec(digest=before.digest, media_type="text/x-bobs")) as session:
        assert session.artifact.media_type == "application/octet-stream"  # as bob stored it
    assert bob.stat(before.digest).create_time > before.create_time
    assert ann.stat(before.digest) == before
    assert ann.upload_status("first").artifact == before
    assert ann.list() == listed
    with ann.open_upload("first", UploadSpec()) as session:
        assert session.artifact.media_type == "text/x-anns"


def test_a_job_says_what_it_made_whoever_else_has_it(any_store, ann, bob):
    with bob.open_upload("odd", UploadSpec(media_type="text/x-bobs")) as session:
        session.write(0, b"a result")
        session.finish()
    digest = any_store.put_bytes(b"a result", "application/jsonl").digest
    any_store.references.add("job/1", [digest], "ann")
    assert ann.stat(digest).media_type == "application/jsonl"
    upload(bob, b"a result", "again")
    assert (ann.stat(digest).media_type, bob.stat(digest).media_type) == ("application/jsonl", "text/x-bobs")


def test_a_reference_makes_its_principal_a_holder(any_store, bob):
    digest = any_store.put_bytes(b"made by a job").digest
    with pytest.raises(NotFound):
        bob.stat(digest)
    any_store.references.add("ngram-store/bob/n/1", [digest], "bob")
    assert bob.stat(digest).size_bytes == 13
    assert [info.digest for info in bob.list()[0]] == [digest]


def test_an_administrator_sees_everything(any_store, ann):
    root, digest = ArtifactView(any_store, "root", everything=True), upload(ann, b"ann's")
    any_store.references.add("job/1", [digest], "ann")
    other = any_store.put_bytes(b"nobody's").digest
    assert {info.digest for info in root.list()[0]} == {digest, other}
    assert root.owners(digest) == ["job/1"]
    with pytest.raises(FailedPrecondition):
        root.delete(digest)
    any_store.references.remove_owner("job/1")
    root.delete(digest)
    with pytest.raises(NotFound):
        ann.stat(digest)


def test_a_digest_is_a_capability_where_the_setting_says_so(make_store):
    store = make_store(digest_is_capability=True)
    ann, bob = ArtifactView(store, "ann"), ArtifactView(store, "bob")
    digest = upload(ann, b"handed on")
    assert b"".join(bob.chunks(digest)) == b"handed on"
    assert bob.missing([digest]) == []
    assert bob.list() == ([], "")
    assert bob.owners(digest) == []
    with pytest.raises(NotFound):
        bob.delete(digest)
    with bob.open_upload("quick", UploadSpec(digest=digest)) as session:
        assert session.artifact is not None
    ann.delete(digest)
    assert b"".join(bob.chunks(digest)) == b"handed on"  # an upload makes a holder, however short


def test_what_everybody_holds_is_read_by_all_and_listed_by_none(any_store, bob):
    digest = any_store.put_bytes(b"a profile").digest
    any_store.references.holders.give_all(digest)
    assert b"".join(bob.chunks(digest)) == b"a profile"
    assert bob.list() == ([], "")
    with pytest.raises(NotFound):
        bob.delete(digest)


def test_collected_artefacts_have_no_holders(any_store, ann):
    digest = upload(ann, b"old")
    assert any_store.collect(grace_seconds=-5).deleted == 1
    assert any_store.references.holders.of("ann") == {}
    any_store.put_bytes(b"old")
    with pytest.raises(NotFound):
        ann.stat(digest)


def test_damaged_artefacts_have_no_holders_once_they_are_cleared_away(any_store, ann):
    digest = upload(ann, b"whole")
    any_store._objects.remove(f"blobs/{digest[7:9]}/{digest[7:]}")
    with pytest.raises(DataLoss):
        list(ann.chunks(digest))
    any_store.collect(grace_seconds=-5)
    assert any_store.references.holders.of("ann") == {}


def test_pages_hold_the_callers_own(any_store, ann, bob):
    mine = {upload(ann, b"%d" % n, f"u{n}") for n in range(5)}
    for n in range(5, 20):
        upload(bob, b"%d" % n, f"u{n}")
    seen, token = [], ""
    while True:
        infos, token = ann.list(2, token)
        seen += [info.digest for info in infos]
        if not token:
            break
    assert len(seen) == 5
    assert set(seen) == mine


def test_a_digest_is_checked_before_anything_is_looked_up(bob):
    for look in (bob.stat, bob.chunks, bob.delete):
        with pytest.raises(InvalidArgument) as refused:
            look("sha256:../../etc/passwd")
        assert refused.value.reason == Reason.DIGEST_INVALID
