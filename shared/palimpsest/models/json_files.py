"""The JSON files of a model's folder: read within limits, and checked before any library is given them."""

from pathlib import Path
from typing import Any, cast

from palimpsest import json_input
from palimpsest.errors import InvalidArgument, Reason

LARGEST = 256 << 20
"""Bytes of the largest file; the largest tokenizers in use have some 40 MB."""

_READ_BY_LIBRARIES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "tekken.json",
    "chat_template.json",
)
"""What transformers and tokenizers open when a model or its tokenizer is loaded."""


def check_json_files(folder: Path) -> None:
    """Check every file that libraries will read: they recurse into what is nested, and fail in ways of their own.

    Raises
    ------
    InvalidArgument
        MODEL_INVALID: a file is not JSON, or not within the limits; it is named.
    """
    for name in _READ_BY_LIBRARIES:
        if (folder / name).exists():
            read_object(folder / name)


def read_object(path: Path, strict: bool = False) -> dict[str, Any]:
    """Read a file that holds a JSON object.

    Parameters
    ----------
    path
        The file.
    strict
        As in ``json_input.decode``.

    Raises
    ------
    InvalidArgument
        MODEL_INVALID: it does not.
    """
    try:
        value = json_input.read(path, max_bytes=LARGEST, strict=strict)
    except json_input.InvalidJson as error:
        message = f"{path} is not usable JSON: {error}. Copy or download it again."
        raise InvalidArgument(Reason.MODEL_INVALID, message) from None
    if not isinstance(value, dict):
        raise InvalidArgument(Reason.MODEL_INVALID, f"{path} is not a JSON object.")
    return cast(dict[str, Any], value)
