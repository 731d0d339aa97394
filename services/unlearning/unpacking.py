"""Files that are compressed as a whole, recognised by their first bytes and read unpacked, as streams."""

import bz2
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

BLOCK = 1 << 20
"""Bytes in memory at a time."""
_MAGICS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
    b"REDIS0": "RDB",
    b"VALKEY": "RDB",
}


class Packed(Exception):
    """A file is packed and cannot be unpacked, or not to its end; the message says of what kind it is, and why."""


def unpacked(path: Path) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Give a packed file's content: name (empty unless it is an archive) and blocks of at most 1 MiB.

    Nothing for other files. Read the blocks of one member before the next is asked for.

    Raises
    ------
    Packed
        It cannot be unpacked; what came before was. Raised by the blocks as well.
    OSError
        The file cannot be read.
    """
    with path.open("rb") as file:
        kind = _kind(file.read(8))
    if kind == "RDB":
        raise Packed(
            "RDB: a snapshot of Redis or Valkey, whose values are compressed; search the server itself"
        )
    if kind == "zip":
        with _unpacking(kind), zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                with archive.open(member) as file:
                    yield member.filename, _blocks(kind, file)
    elif kind is not None:
        with _unpacking(kind), _OPENERS[kind](path) as file:
            yield "", _blocks(kind, file)


def read_blocks(file: IO[bytes]) -> Iterator[bytes]:
    """Read a file in blocks of 1 MiB."""
    while block := file.read(BLOCK):
        yield block


def _kind(head: bytes) -> str | None:
    for magic, kind in _MAGICS.items():
        if head.startswith(magic):
            return kind
    is_zlib = len(head) > 2 and head[0] == 0x78 and int.from_bytes(head[:2]) % 31 == 0
    return "zlib" if is_zlib else None


def _blocks(kind: str, file: IO[bytes]) -> Iterator[bytes]:
    with _unpacking(kind):
        yield from read_blocks(file)


@contextmanager
def _unpacking(kind: str) -> Iterator[None]:
    """Raise Packed for what the decompressors raise; each of them has its own."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        # Two bytes look like zlib's by chance: what does not unpack is not packed.
        if kind != "zlib":
            raise Packed(f"{kind}: damaged ({error})") from None
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or a method that zipfile does not know
        raise Packed(f"{kind}: cannot be unpacked ({error})") from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise Packed(f"{kind}: damaged ({error})") from None  # how gzip and bz2 say it


class _Zlib:
    """A zlib stream as a file that is read once."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._stream = zlib.decompressobj()

    def __enter__(self) -> "_Zlib":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes; none at the end."""
        while not self._stream.eof:
            data = self._stream.unconsumed_tail or self._file.read(1 << 16)
            found = self._stream.decompress(data, size)
            if found or not data:
                return found
        return b""


def _zstd(path: Path) -> Any:
    try:
        import zstandard
    except ImportError:
        raise Packed("zstd: the package zstandard is not installed here; unpack it first") from None
    return zstandard.open(path, "rb")


_OPENERS: dict[str, Callable[[Path], Any]] = {
    "gzip": gzip.open,
    "bzip2": bz2.open,
    "xz": lzma.open,
    "zstd": _zstd,
    "zlib": _Zlib,
}
