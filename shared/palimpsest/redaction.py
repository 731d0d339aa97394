"""Exceptions that nobody foresaw, without what they say: a ``ValueError`` or ``KeyError`` quotes the value.

Work on texts that are to be forgotten runs within :func:`redacted`. What leaves it goes into logs and spans, which keep
the place in the code and lose the text.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from palimpsest.disk import disk_full, is_full
from palimpsest.errors import PalimpsestError
from palimpsest.progress import Drain, LeaseLost, Postponed

_OWN = (PalimpsestError, Drain, LeaseLost, Postponed)
"""Their words are ours."""
_PLAIN = (OSError, MemoryError)
"""Their words are the operating system's, and paths."""


class Redacted(RuntimeError):
    """An unforeseen exception: its class and its traceback, not its message."""


@contextmanager
def redacted(keep: Callable[[BaseException], bool] = lambda _: False) -> Iterator[None]:
    """Take the message, the notes and the causes of an unforeseen exception away as it passes; also a decorator.

    Errors of the project pass without their causes, interrupts and errors of the operating system as they are.

    Parameters
    ----------
    keep
        Returns whether another exception passes as it is: one by which somebody has to act.

    Raises
    ------
    ResourceExhausted
        DISK_FULL, where that is behind an exception.
    Redacted
        In place of any other exception, with its traceback.
    """
    try:
        yield
    except _OWN as error:
        error.__cause__, error.__suppress_context__ = None, True
        raise
    except Exception as error:
        if isinstance(error, _PLAIN) or keep(error):
            raise
        if is_full(error):
            raise disk_full("what is written here") from None
        message = f"{type(error).__name__}, whose message is left out because it may quote a text"
        raise Redacted(message).with_traceback(error.__traceback__) from None
