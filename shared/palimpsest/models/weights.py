"""Safetensors folders: where every tensor lies, checked before a byte of it is trusted."""

import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palimpsest import json_input
from palimpsest.errors import InvalidArgument, Reason
from palimpsest.models.files import open_regular
from palimpsest.models.json_files import read_object

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
PICKLED_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")

_LONGEST_HEADER = 100 << 20
_MOST_DIMENSIONS = 64
_LONGEST_NAME = 255
"""Bytes of the longest file name that file systems have."""
_READ_BYTES = 8 << 20
_DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
}  # fmt: skip


@dataclass(frozen=True)
class StoredTensor:
    """One tensor on the disk.

    Attributes
    ----------
    dtype
        As safetensors writes it, such as ``F32``.
    start, end
        Its bytes in the file.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    end: int

    def read(self) -> Iterator[bytes]:
        """Yield its bytes, a few MiB at a time."""
        with open_regular(self.file) as file:
            file.seek(self.start)
            rest = self.end - self.start
            while rest and (data := file.read(min(rest, _READ_BYTES))):
                rest -= len(data)
                yield data


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files a folder's weights are in, as transformers would choose them.

    Raises
    ------
    InvalidArgument
        MODEL_PICKLED: the weights, or some of them, are in a format that can run code when it is read.
        MODEL_INVALID: there are no weights, or the index is damaged or names files outside the folder.
    """
    index = folder / INDEX_FILE
    if (folder / SINGLE_FILE).exists():
        return [folder / SINGLE_FILE]
    if index.exists():
        weight_map = read_object(index, strict=True).get("weight_map")
        if not isinstance(weight_map, dict):
            raise _invalid(f'{index} is damaged: it has no object "weight_map".')
        shards = sorted({str(name) for name in weight_map.values()})
        refuse_pickled([name for name in shards if name.endswith(PICKLED_SUFFIXES)])
        for name in shards:
            plain = Path(name).name == name and "\0" not in name and len(name.encode()) <= _LONGEST_NAME
            if not plain or not name.endswith(".safetensors"):
                raise _invalid(
                    f"{index} names {name[:100]!r}, which is not a safetensors file of the same folder."
                )
            if not (folder / name).exists():
                raise _invalid(f"{folder} has no file {name}, which its index names. Copy the model again.")
        return [folder / name for name in shards]
    refuse_pickled(sorted(path.name for path in folder.iterdir() if path.suffix in PICKLED_SUFFIXES))
    hint = "; register the .gguf file itself" if any(folder.glob("*.gguf")) else ""
    raise _invalid(f"{folder} has no {SINGLE_FILE} and no {INDEX_FILE}{hint}.")


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of a folder by name, in the order of the names.

    Raises
    ------
    InvalidArgument
        As weight_files, and MODEL_INVALID for a file that is damaged, cut short or holds a tensor twice.
    """
    tensors: dict[str, StoredTensor] = {}
    for file in weight_files(folder):
        for tensor in _read_header(file):
            if tensor.name in tensors:
                raise _invalid(
                    f"Tensor {tensor.name!r} is in both {tensors[tensor.name].file.name} and {file.name}."
                )
            tensors[tensor.name] = tensor
    return dict(sorted(tensors.items()))


def _read_header(path: Path) -> list[StoredTensor]:
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(8)
        if head.startswith((b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04")):
            refuse_pickled([path.name])
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
        if length > min(size - 8, _LONGEST_HEADER):
            raise _invalid(f"{path} is not a safetensors file, or is cut inside its header. Copy it again.")
        try:
            header = json_input.decode(file.read(length), max_bytes=_LONGEST_HEADER)
            header.pop("__metadata__", None)
            tensors = [_tensor(path, 8 + length, name, entry) for name, entry in header.items()]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _invalid(f"{path} has a damaged header: {error}. Copy it again.") from None
    end = 8 + length
    for tensor in sorted(tensors, key=lambda tensor: (tensor.start, tensor.end)):
        if tensor.start != end:
            raise _invalid(f"{path} has a damaged header: tensors overlap or leave a gap at {tensor.name!r}.")
        end = tensor.end
    if end != size:
        raise _invalid(f"{path} holds {size} of {end} bytes: it is cut short or damaged. Copy it again.")
    return tensors


def _tensor(path: Path, base: int, name: str, entry: dict[str, Any]) -> StoredTensor:
    shape = tuple(entry["shape"])
    start, end = entry["data_offsets"]
    bits = _DTYPE_BITS[entry["dtype"]]
    if len(shape) > _MOST_DIMENSIONS or any(type(number) is not int for number in (*shape, start, end)):
        raise ValueError(f"tensor {name!r} has a shape or offsets that are no short list of integers")
    if (
        not 0 <= start <= end
        or any(length < 0 for length in shape)
        or math.prod(shape) * bits != (end - start) * 8
    ):
        raise ValueError(f"tensor {name!r} does not fit its byte range")
    return StoredTensor(name, entry["dtype"], shape, path, base + start, base + end)


def refuse_pickled(names: list[str]) -> None:
    """Raise MODEL_PICKLED if there is any name in the list."""
    if names:
        message = (
            f"{', '.join(names)}: pickled weights can run code when they are read and are never opened here. Convert "
            "them where you trust them: AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder) "
            "writes safetensors; then register the new folder."
        )
        raise InvalidArgument(Reason.MODEL_PICKLED, message, metadata={"files": ", ".join(names)})


def _invalid(message: str) -> InvalidArgument:
    return InvalidArgument(Reason.MODEL_INVALID, message)
