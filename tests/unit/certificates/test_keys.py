"""Keys: made, kept private, rotated, revoked."""

from datetime import timedelta

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from palimpsest.certificates import KeyStore, PublicKey, RevocationList, SigningKey
from palimpsest.certificates.canonical import canonical, digest
from palimpsest.certificates.key_store import REVOKED
from palimpsest.errors import FailedPrecondition, InvalidArgument, NotFound, Reason
from tests.unit.certificates.conftest import NOW

DAY = timedelta(days=1)


@pytest.fixture
def store(tmp_path):
    return KeyStore(tmp_path / "keys")


def test_an_id_is_the_fingerprint_of_the_record():
    public = SigningKey.generate(NOW, 30).public
    fields = public.model_dump()
    assert fields.pop("id") == digest(canonical(fields))
    assert (public.created, public.expires) == ("2026-03-01T12:00:00Z", "2026-03-31T12:00:00Z")


def test_signatures_are_ed25519():
    key = SigningKey.generate(NOW, 30)
    signature = key.sign(b"message")
    plain = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.public.public))
    plain.verify(bytes.fromhex(signature), b"message")
    with pytest.raises(InvalidSignature):
        plain.verify(bytes.fromhex(signature), b"massage")
    assert key.public.verifies(signature, b"message")
    assert not key.public.verifies(signature, b"massage")
    assert not key.public.verifies("0" * 128, b"message")


def test_a_published_signature_verifies():
    # RFC 8032, section 7.1, test 2
    fields = SigningKey.generate(NOW, 30).public.model_dump()
    fields["public"] = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    key = PublicKey.of(fields)
    signature = (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert key.verifies(signature, b"\x72")
    assert not key.verifies(signature, b"\x73")


def test_every_flipped_byte_of_a_public_key_file_is_noticed():
    data = SigningKey.generate(NOW, 30).public.to_bytes()
    assert PublicKey.read(data).to_bytes() == data
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= at % 255 + 1
        with pytest.raises(InvalidArgument):
            PublicKey.read(bytes(changed))


def test_a_private_key_file_is_the_owners_alone(tmp_path):
    file = tmp_path / "private.json"
    key = SigningKey.generate(NOW, 30)
    key.save(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert SigningKey.load(file).public == key.public
    assert SigningKey.load(file).sign(b"m") == key.sign(b"m")
    with pytest.raises(FileExistsError):
        SigningKey.generate(NOW, 30).save(file)
    for mode in (0o640, 0o604, 0o660):
        file.chmod(mode)
        with pytest.raises(FailedPrecondition) as refused:
            SigningKey.load(file)
        assert refused.value.reason == Reason.KEY_INVALID


def test_two_halves_that_do_not_belong_together(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    SigningKey.generate(NOW, 30).save(one)
    SigningKey.generate(NOW, 30).save(two)
    first, second = one.read_bytes(), two.read_bytes()
    at = first.index(b'"private"')
    one.write_bytes(first[:at] + second[second.index(b'"private"') :])
    with pytest.raises(FailedPrecondition, match="does not belong"):
        SigningKey.load(one)


def test_nothing_shows_the_private_half(store):
    stored = store.new(NOW, 30)
    (file,) = store.folder.glob("*.private.json")
    private = file.read_bytes().split(b'"private":"')[1][:64].decode()
    assert private not in repr(store.signing(NOW)) + repr(stored) + stored.file.read_text()


def test_the_newest_usable_key_signs(store):
    with pytest.raises(FailedPrecondition) as refused:
        store.signing(NOW)
    assert refused.value.reason == Reason.KEY_MISSING
    old = store.new(NOW, 100)
    assert store.signing(NOW).public == old.public
    new = store.new(NOW + 10 * DAY, 10)
    assert store.signing(NOW).public == old.public  # the new one is not valid yet
    assert store.signing(NOW + 15 * DAY).public == new.public
    assert store.signing(NOW + 20 * DAY).public == old.public  # the new one has expired
    states = [key.state(NOW + 15 * DAY) for key in store.stored()]
    assert states == ["usable", "usable"]
    assert [key.state(NOW) for key in store.stored()] == ["usable", "future"]
    with pytest.raises(FailedPrecondition):
        store.signing(NOW + 100 * DAY)


def test_a_revoked_key_does_not_sign_and_its_private_half_is_gone(store):
    old, new = store.new(NOW, 100), store.new(NOW + DAY, 100)
    revoked = store.revoke(new.public.id[:20], "stolen", NOW + 2 * DAY)
    assert revoked.public == new.public
    assert store.signing(NOW + 3 * DAY).public == old.public
    assert [key.state(NOW + 3 * DAY) for key in store.stored()] == ["usable", "revoked"]
    assert len(list(store.folder.glob("*.private.json"))) == 1
    entries = RevocationList.load(store.folder / REVOKED).revoked
    assert [(e.id, e.reason, e.time) for e in entries] == [(new.public.id, "stolen", "2026-03-03T12:00:00Z")]
    store.revoke(new.public.id, "again", NOW + 9 * DAY)
    assert RevocationList.load(store.folder / REVOKED).revoked == entries
    store.revoke(old.public.id.removeprefix("sha256:"), "retired", NOW + 9 * DAY)
    assert len(RevocationList.load(store.folder / REVOKED).revoked) == 2


@pytest.mark.parametrize("id", ["", "sha256:", "0" * 64, "x"])
def test_no_such_key(store, id):
    store.new(NOW, 100)
    with pytest.raises(NotFound) as refused:
        store.revoke(id, "stolen", NOW)
    assert refused.value.reason == Reason.KEY_NOT_FOUND
    assert not (store.folder / REVOKED).exists()


def test_an_id_that_fits_two_keys(store):
    made = [store.new(NOW, 100) for _ in range(17)]  # more than the first digit has values
    digits = [key.public.id[7] for key in made]
    twice = next(digit for digit in digits if digits.count(digit) > 1)
    with pytest.raises(NotFound, match="keys whose id begins with"):
        store.revoke(twice, "stolen", NOW)


def test_a_reason_is_a_word(store):
    key = store.new(NOW, 100)
    with pytest.raises(InvalidArgument):
        store.revoke(key.public.id, "it was stolen", NOW)
    assert store.signing(NOW).public == key.public
