"""GGUF headers: is this file whole, and what does it hold? Answered before anything large is read.

The format is a fixed head, typed key-value pairs, one entry per tensor, padding, then the tensors' bytes. The
walk below never trusts a length: every read is checked against the size of the file, so a file that was cut
anywhere, or that lies about its counts, is refused in milliseconds and in words.
"""

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.models.claims import check_claims
from palimpsest.models.files import open_regular

_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_STRING, _ARRAY = 8, 9
_VERSIONS = (2, 3)
_MOST_DIMENSIONS = 4
_DEFAULT_ALIGNMENT = 32


@dataclass(frozen=True)
class GgufHeader:
    """The header of a GGUF file.

    Attributes
    ----------
    metadata
        Key-value pairs whose value is a number, a bool or a string; arrays are left out.
    tensor_types
        Name of each tensor, and its storage type such as ``Q4_1`` or ``F32``.
    elements
        Elements of all tensors together.
    size
        Bytes the tensors need, counted from the start of the file.
    """

    metadata: dict[str, int | float | bool | str]
    tensor_types: dict[str, str]
    elements: int
    size: int

    @property
    def architecture(self) -> str:
        """The model family as GGUF names it, such as ``llama``."""
        return str(self.metadata["general.architecture"])


class _CutShort(Exception):
    """The file ends inside what is being read."""


class _Cursor:
    """Bounds-checked reads from a mapped file."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.offset = 0

    def skip(self, count: int) -> int:
        start, self.offset = self.offset, self.offset + count
        if self.offset > len(self.data):
            raise _CutShort
        return start

    def number(self, layout: str) -> int | float | bool:
        return struct.unpack_from(layout, self.data, self.skip(struct.calcsize(layout)))[0]

    def integer(self, layout: str) -> int:
        return int(self.number(layout))

    def text(self) -> str:
        length = self.integer("<Q")
        start = self.skip(length)
        return self.data[start : start + length].decode("utf-8")


def read_gguf_header(path: Path) -> GgufHeader:
    """Read and check the head of a GGUF file.

    Raises
    ------
    InvalidArgument
        MODEL_INVALID: not a GGUF file, cut short, or with a head that contradicts itself.
    """
    with open_regular(path) as file:
        if file.read(4) != b"GGUF":
            raise _invalid(path, "is not a GGUF file: it does not begin with the letters GGUF")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                header = _parse(_Cursor(data), path)
            except _CutShort:
                raise _invalid(path, f"is cut short: its {len(data)} bytes end inside the header") from None
            except (ValueError, KeyError, OverflowError) as error:
                raise _invalid(path, f"has a damaged header: {error}") from None
            if header.size > len(data):
                message = f"is cut short: it holds {len(data)} of {header.size} bytes"
                raise _invalid(path, message)
    return header


def _parse(cursor: _Cursor, path: Path) -> GgufHeader:
    cursor.skip(4)
    version = cursor.integer("<I")
    if version not in _VERSIONS:
        raise ValueError(f"version {version} is not one of {_VERSIONS}")
    tensor_count, pair_count = cursor.integer("<Q"), cursor.integer("<Q")

    metadata: dict[str, int | float | bool | str] = {}
    for _ in range(pair_count):
        key, kind = cursor.text(), cursor.integer("<I")
        if kind == _STRING:
            metadata[key] = cursor.text()
        elif kind == _ARRAY:
            _skip_array(cursor)
        else:
            metadata[key] = cursor.number(_layout(kind))
    if "general.architecture" not in metadata:
        raise ValueError("it does not name an architecture")

    types, ends, total = {}, [0], 0
    shapes: list[tuple[int, ...]] = []
    for _ in range(tensor_count):
        name, dimensions = cursor.text(), cursor.integer("<I")
        if dimensions > _MOST_DIMENSIONS:
            raise ValueError(f"tensor {name!r} has {dimensions} dimensions")
        shapes.append(tuple(cursor.integer("<Q") for _ in range(dimensions)))
        elements = math.prod(shapes[-1])
        kind = GGMLQuantizationType(cursor.integer("<I"))
        block, block_bytes = GGML_QUANT_SIZES[kind]
        if elements % block or name in types:
            raise ValueError(f"tensor {name!r} appears twice or does not fill its blocks")
        types[name] = kind.name
        total += elements
        ends.append(cursor.integer("<Q") + elements // block * block_bytes)

    check_claims(metadata, shapes, str(path))
    alignment = int(metadata.get("general.alignment", _DEFAULT_ALIGNMENT))
    if alignment < 1:
        raise ValueError(f"alignment is {alignment}")
    start = math.ceil(cursor.offset / alignment) * alignment
    return GgufHeader(metadata=metadata, tensor_types=types, elements=total, size=start + max(ends))


def _skip_array(cursor: _Cursor) -> None:
    kind, length = cursor.integer("<I"), cursor.integer("<Q")
    if kind == _STRING:
        for _ in range(length):
            cursor.skip(cursor.integer("<Q"))
    else:
        cursor.skip(length * struct.calcsize(_layout(kind)))


def _layout(kind: int) -> str:
    if kind not in _SCALARS:
        raise ValueError(f"value type {kind} is unknown here")
    return _SCALARS[kind]


def _invalid(path: Path, what: str) -> InvalidArgument:
    return InvalidArgument(
        Reason.MODEL_INVALID, f"{path} {what}. Copy or download it again.", metadata={"path": path}
    )
