"""Replacing a file: the old bytes or the new ones, nothing beside them, and synced where that is asked for."""

import os
import stat
from pathlib import Path

import pytest

from palimpsest.disk import replace_file


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_replaced_with_its_mode_and_nothing_is_beside_it(tmp_path: Path, durable: bool):
    file = tmp_path / "record"
    replace_file(file, "œuvre", durable=durable)
    assert file.read_bytes() == "œuvre".encode()
    replace_file(file, b"\x00new", durable=durable, mode=0o600)
    assert file.read_bytes() == b"\x00new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("durable", [False, True])
def test_where_it_cannot_be_replaced_all_stays_as_it_was(tmp_path: Path, durable: bool):
    folder = tmp_path / "record"
    folder.mkdir()
    (folder / "old").write_text("old")
    with pytest.raises(OSError, match="irectory"):
        replace_file(folder, b"new", durable=durable)
    assert list(tmp_path.rglob("*")) == [folder, folder / "old"]


def test_what_is_durable_is_synced_before_it_has_its_name_and_the_name_after_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file, seen, fsync = tmp_path / "record", [], os.fsync

    def noted(descriptor: int) -> None:
        synced = os.readlink(f"/proc/self/fd/{descriptor}")
        seen.append((Path(synced).name, file.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    replace_file(file, b"bytes")
    assert seen == []
    file.unlink()
    replace_file(file, b"bytes", durable=True)
    (partial, named), folder = seen
    assert (partial.startswith(".record."), partial.endswith(".partial"), named) == (True, True, False)
    assert folder == (tmp_path.name, True)
