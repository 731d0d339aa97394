"""Files of models, which anybody may have put there: only regular ones are opened, so that no read waits for ever."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from palimpsest.errors import InvalidArgument, Reason

_TEMPLATES = "additional_chat_templates"
"""The one folder within a model's that transformers reads."""


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading, if it is one.

    Raises
    ------
    InvalidArgument
        MODEL_INVALID: it is a FIFO, a device, a socket or a folder.
    FileNotFoundError
        There is none.
    """
    require_regular(path)
    # It may have been replaced since: opening a FIFO must not wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _special(path)
    return os.fdopen(descriptor, "rb")


def require_regular(path: Path) -> None:
    """Refuse what is there and is no regular file; links are followed.

    Raises
    ------
    InvalidArgument
        MODEL_INVALID.
    FileNotFoundError
        There is nothing.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise _special(path)


def require_regular_files(folder: Path) -> None:
    """Refuse a model's folder in which anything is neither a regular file nor a folder.

    transformers opens files of these folders by rules of its own, so none may be there at all.

    Raises
    ------
    InvalidArgument
        MODEL_INVALID, naming the file.
    """
    templates = folder / _TEMPLATES
    for path in (*folder.iterdir(), *(templates.iterdir() if templates.is_dir() else ())):
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:  # a link to nothing, which nobody can open
            continue
        except OSError as error:
            raise InvalidArgument(
                Reason.MODEL_INVALID, f"{path} cannot be looked at: {error.strerror}."
            ) from error
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise _special(path)


def _special(path: Path) -> InvalidArgument:
    return InvalidArgument(
        Reason.MODEL_INVALID,
        f"{path} is not a regular file. A model's folder holds files and folders only: no FIFOs, devices or sockets.",
        metadata={"path": path},
    )
