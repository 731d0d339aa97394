"""The format is what its version number says: chunks stay readable, and other bytes need another number."""

import json

import pytest

from palimpsest.kv import decode
from palimpsest.kv.container import MAJOR

from .goldens import FOLDER, VERSION, contents, digest, golden_chunks, golden_profile

KEPT = sorted(path for path in FOLDER.glob(f"{MAJOR}.*") if path.is_dir())


def test_every_coder_and_level_is_kept_under_the_present_version():
    assert FOLDER / VERSION in KEPT, (
        "the version is new: write its chunks with `python -m tests.unit.kv.goldens`"
    )
    kept = {path.stem for path in (FOLDER / VERSION).glob("*.plkv")}
    assert kept == {name.replace(" ", "-") for name in golden_chunks()}


@pytest.mark.parametrize("name", list(golden_chunks()))
def test_todays_encoder_writes_what_the_version_number_stands_for(name):
    kept = (FOLDER / VERSION / f"{name.replace(' ', '-')}.plkv").read_bytes()
    assert contents(golden_chunks()[name]) == contents(kept), (
        "The encoder writes other bytes than before. If that is meant, raise the version in palimpsest.kv.container "
        "(major: earlier readers cannot read it; minor: they can), and keep its chunks with "
        "`python -m tests.unit.kv.goldens`."
    )


@pytest.mark.parametrize("folder", KEPT, ids=lambda path: path.name)
def test_kept_chunks_decode_to_what_they_always_did(folder):
    profile, wanted = golden_profile(), json.loads((folder / "digests.json").read_text())
    found = {
        name: digest(decode((folder / f"{name.replace(' ', '-')}.plkv").read_bytes(), profile=profile))
        for name in wanted
    }
    assert found == wanted
