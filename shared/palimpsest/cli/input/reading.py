"""What a command reads: a file, or standard input where ``-`` stands for it."""

import sys
from pathlib import Path
from typing import BinaryIO

from palimpsest.cli.output.printing import note

STANDARD_INPUT = "-"


def read_text(file: str, what: str = "text") -> str:
    """Return a file's text; - is standard input."""
    return Path(file).read_text(encoding="utf-8") if file != STANDARD_INPUT else typed_text(what)


def typed_text(what: str) -> str:
    """Return the text of standard input, telling a person at a terminal what is waited for."""
    _tell(what)
    return sys.stdin.read()


def read_bytes(file: str, what: str = "text") -> bytes:
    """Return a file's bytes; - is standard input."""
    if file != STANDARD_INPUT:
        return Path(file).read_bytes()
    _tell(what)
    return sys.stdin.buffer.read()


def opened(file: str, what: str = "file") -> str | BinaryIO:
    """Return what an upload takes: the path, or standard input as a file."""
    if file != STANDARD_INPUT:
        return file
    _tell(what)
    return sys.stdin.buffer


def _tell(what: str) -> None:
    if sys.stdin.isatty():
        note(f"Reading the {what} from standard input; Ctrl-D ends it.")
