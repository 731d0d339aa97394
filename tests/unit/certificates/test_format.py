"""A second verifier, from what docs/certificates.md says and without our code, agrees on every certificate."""

import hashlib
import json

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.unit.certificates.test_merkle import mth, path


def canonical(value) -> bytes:
    # Sorting by code points is sorting by UTF-16 units for the keys of these files, which are ASCII.
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def without(value: dict, field: str) -> dict:
    return {key: inner for key, inner in value.items() if key != field}


def believed(certificate: bytes, log: bytes, key: bytes) -> bool:
    key_record, found = json.loads(key), json.loads(certificate)
    lines = log.splitlines()
    previous = "sha256:" + "0" * 64
    for seq, line in enumerate(lines):
        event = json.loads(line)
        if line != canonical(event) or event["seq"] != seq or event["previous"] != previous:
            return False
        previous = event["hash"]
        if sha256(canonical(without(event, "hash"))) != previous:
            return False
    inclusion, statement = found["inclusion"], found["statement"]
    tree, index = inclusion["tree"], inclusion["index"]
    event = json.loads(lines[index])
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key_record["public"]))
        message = b"palimpsest certificate 1\n" + canonical(without(found, "signature"))
        public.verify(bytes.fromhex(found["signature"]), message)
    except InvalidSignature:
        return False
    first = lines[: tree["size"]]
    return (
        sha256(canonical(without(key_record, "id"))) == key_record["id"] == statement["issuer"]
        and "sha256:" + mth(first).hex() == tree["root"]
        and json.loads(first[-1])["hash"] == tree["head"]
        and [f"sha256:{sibling.hex()}" for sibling in path(index, first)] == inclusion["path"]
        and event["type"] == "CERTIFICATE_ISSUED"
        and event["request"] == statement["request"]
        and event["payload"] == sha256(canonical(statement))
    )


def test_a_plain_verifier_believes_what_was_issued(issued):
    files = [file.read_bytes() for file in (issued.certificate, issued.log, issued.key)]
    assert believed(*files)
    assert not issued.failed()
    for at, (old, new) in enumerate(
        [(b'"value":"12.25"', b'"value":"12.26"'), (b"r-18", b"r-19"), (b"2027", b"2028")]
    ):
        changed = [*files]
        changed[at] = changed[at].replace(old, new)
        assert changed != files
        assert not believed(*changed)
