"""The file of an n-gram store: its layout, and how foreign, truncated and altered files are detected.

::

    0            magic, 8 bytes
    8            version, uint32
    12           length of the header, uint32
    16           header, JSON with sorted keys: tokenizer, vocab_size, tokens, documents, arrays, length of the file
    ...          SHA-256 of everything before it, 32 bytes
    64-aligned   starts, uint32 or uint64 [vocab_size + 1]
    64-aligned   columns, uint16 or uint32 [5, tokens]
    ...          SHA-256 of everything before it, 32 bytes

Numbers are little-endian. Row i of the columns is the (i + 2)-th token of every window of six tokens of the text, the
windows sorted by their tokens; windows that begin with token t are those from ``starts[t]`` to ``starts[t + 1]``. A
window that runs past the end of its document is filled up with the largest number of the columns' type, which is no
token. That is all: an n-gram's count is the length of a range of windows, so nothing has to be kept for it.
"""

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np

from palimpsest import json_input
from palimpsest.errors import DataLoss, Reason

ORDERS = (2, 3, 4, 5, 6)
"""Lengths of the n-grams in a store."""
LONGEST = ORDERS[-1]
"""Tokens of a window."""
MAGIC = b"PLMPngrm"
VERSION = 1
DIGEST = hashlib.sha256().digest_size
_ALIGN = 64
_PREFIX = struct.Struct("<8sII")
_MOST_HEADER = 1 << 16
_READ = 1 << 20


@dataclass(frozen=True)
class Layout:
    """The facts in a store's header, and the offsets that follow from them.

    Attributes
    ----------
    tokenizer
        Fingerprint of the tokenizer.
    vocab_size
        Ids are below this.
    tokens, documents
        Of the text that the store was built from; empty documents do not count.
    """

    tokenizer: str
    vocab_size: int
    tokens: int
    documents: int

    @property
    def column_dtype(self) -> np.dtype:
        """Type of the columns: uint16 where the vocabulary leaves room for the filler, else uint32."""
        return column_dtype(self.vocab_size)

    @property
    def start_dtype(self) -> np.dtype:
        """Type of the starts: uint32 below 2**32 tokens."""
        return np.dtype("<u4" if self.tokens < 1 << 32 else "<u8")

    @property
    def start_offset(self) -> int:
        """Offset of the starts, in bytes."""
        return _aligned(_PREFIX.size + len(self._header(0, 0, 0)) + DIGEST)

    @property
    def column_offset(self) -> int:
        """Offset of the columns, in bytes."""
        return _aligned(self.start_offset + self.start_dtype.itemsize * (self.vocab_size + 1))

    @property
    def length(self) -> int:
        """Length of the file, in bytes."""
        return self.column_offset + self.column_dtype.itemsize * (LONGEST - 1) * self.tokens + DIGEST

    def _header(self, start: int, column: int, length: int) -> bytes:
        facts = {
            "tokenizer": self.tokenizer,
            "vocab_size": self.vocab_size,
            "orders": list(ORDERS),
            "tokens": self.tokens,
            "documents": self.documents,
            # Fixed width, so that the header's length does not depend on the values.
            "arrays": {
                "starts": [self.start_dtype.str, f"{start:020d}"],
                "columns": [self.column_dtype.str, f"{column:020d}"],
            },
            "length": f"{length:020d}",
        }
        return json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()

    def to_bytes(self) -> bytes:
        """Everything before the starts, its checksum included."""
        header = self._header(self.start_offset, self.column_offset, self.length)
        head = _PREFIX.pack(MAGIC, VERSION, len(header)) + header
        return (head + hashlib.sha256(head).digest()).ljust(self.start_offset, b"\0")


def column_dtype(vocab_size: int) -> np.dtype:
    """Type of the columns for a vocabulary; its largest value is the filler."""
    return np.dtype("<u2" if vocab_size <= 0xFFFF else "<u4")


def filler(dtype: np.dtype) -> int:
    """Padding after the end of a document; sorts after every token."""
    return int(np.iinfo(dtype).max)


def read_layout(file: BinaryIO, path: Path) -> Layout:
    """Read a file's header, and compare the file's length with it.

    Raises
    ------
    DataLoss
        NGRAMS_FORMAT_UNKNOWN: not a store, or another version. NGRAMS_DAMAGED: truncated or altered.
    """
    prefix = file.read(_PREFIX.size)
    if len(prefix) < _PREFIX.size or prefix[: len(MAGIC)] != MAGIC:
        if MAGIC.startswith(prefix[: len(MAGIC)]):
            damaged(path, f"it ends after {len(prefix)} bytes")
        raise DataLoss(
            Reason.NGRAMS_FORMAT_UNKNOWN,
            f"{path.name} is not an n-gram store (it begins with {prefix[:8]!r}). Stores are flat files written by "
            "`palimpsest ngrams build`; other formats, pickles above all, are never opened. Build it anew.",
        )
    _, version, size = _PREFIX.unpack(prefix)
    head = file.read(size) if size <= _MOST_HEADER else b""
    if len(head) < size or file.read(DIGEST) != hashlib.sha256(prefix + head).digest():
        damaged(path, "its header is cut or altered")
    if version != VERSION:
        raise DataLoss(
            Reason.NGRAMS_FORMAT_UNKNOWN,
            f"{path.name} is an n-gram store of version {version}; this program reads {VERSION}. Upgrade it, or build "
            "the store anew.",
            metadata={"version": version},
        )
    try:
        facts = json_input.decode(head, max_bytes=_MOST_HEADER)
        layout = Layout(facts["tokenizer"], facts["vocab_size"], facts["tokens"], facts["documents"])
        found, same = file.seek(0, 2), layout.to_bytes()[: len(prefix) + size] == prefix + head
    except (ValueError, KeyError, TypeError):
        damaged(path, "its header says nothing sensible")
    if found != layout.length or not same:
        damaged(path, f"it has {found} bytes, and its header belongs to one of {layout.length}")
    return layout


def checksum(file: BinaryIO, length: int) -> "hashlib._Hash":
    """Running SHA-256 of the first ``length`` bytes of a file."""
    running = hashlib.sha256()
    file.seek(0)
    while length > 0:
        data = file.read(min(_READ, length))
        if not data:
            break
        running.update(data)
        length -= len(data)
    return running


def damaged(path: Path, what: str) -> NoReturn:
    """Raise DataLoss (NGRAMS_DAMAGED)."""
    raise DataLoss(
        Reason.NGRAMS_DAMAGED,
        f"The n-gram store {path.name} is damaged: {what}. Fetch it again, or delete the store and build it anew.",
    )


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGN) * _ALIGN
