"""Files with checksums that detect damage."""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from palimpsest.disk import replace_file, sync
from palimpsest.errors import DataLoss, Reason

CHECKSUMS = "CHECKSUMS"
_BLOCK = 1 << 20


def seal_json(body: dict[str, object]) -> bytes:
    """Serialise as JSON with a checksum, for ``open_json``."""
    text = json.dumps(body, sort_keys=True, ensure_ascii=False)
    return json.dumps({"crc32": zlib.crc32(text.encode()), "body": text}).encode()


def open_json(path: Path) -> dict[str, object]:
    """Read a file that ``seal_json`` made, and verify its checksum.

    Raises
    ------
    DataLoss
        CORPUS_DAMAGED: the checksum does not match.
    FileNotFoundError
        The file does not exist.
    """
    try:
        outer = json.loads(path.read_bytes())
        text = outer["body"]
        if zlib.crc32(text.encode()) == outer["crc32"]:
            return json.loads(text)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise damaged(path)


def damaged(path: Path, detail: str = "") -> DataLoss:
    """Build the error for a damaged file."""
    message = f"{path.parent.name}/{path.name} is damaged{': ' + detail if detail else ''}. Restore it from a backup."
    return DataLoss(Reason.CORPUS_DAMAGED, message, metadata={"file": path.name})


def crc32_of(path: Path) -> tuple[int, int]:
    """Size in bytes and CRC-32 of a file."""
    size, crc = 0, 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            size, crc = size + len(block), zlib.crc32(block, crc)
    return size, crc


def write_checksums(folder: Path) -> int:
    """Sync the files of a finished folder and record their checksums; returns their total size in bytes."""
    sums: dict[str, object] = {}
    total = 0
    for path in sorted(folder.iterdir()):
        size, crc = crc32_of(path)
        sums[path.name] = [size, crc]
        total += size
        sync(path)
    replace_file(folder / CHECKSUMS, seal_json(sums), durable=True)
    return total


def verify_checksums(folder: Path) -> None:
    """Verify the checksum of every file of a folder.

    Raises
    ------
    DataLoss
        CORPUS_DAMAGED: a file is missing, or its checksum does not match.
    """
    try:
        sums = open_json(folder / CHECKSUMS)
        for name, expected in sums.items():
            if list(crc32_of(folder / name)) != expected:
                raise damaged(folder / name)
    except FileNotFoundError as error:
        raise damaged(Path(str(error.filename)), "the file is missing") from None


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an array for ``load_array``."""
    array = np.ascontiguousarray(array)
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        # Not numpy's own writing, whose error on a full disk does not say that the disk is full.
        file.write(array.data)


def load_array(path: Path) -> np.ndarray:
    """Map an array, read-only.

    Raises
    ------
    DataLoss
        CORPUS_DAMAGED.
    """
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise damaged(path, str(error)) from None
    return np.asarray(found)  # a plain view: slices of a memmap cost ten times as much


def blocks_of(path: Path, overlap: int) -> Iterator[tuple[int, bytes]]:
    """Read a file in blocks of about 1 MiB as (offset, bytes); each begins with the last bytes of the block before."""
    before, at = b"", 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            data = before + block
            yield at - len(before), data
            at += len(block)
            before = data[-overlap:] if overlap else b""
