"""Compiled functions whose machine code is kept on disk where it can be, and compiled again where it cannot."""

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit as _njit
from numba.core.caching import FunctionCache

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class _ForgivingCache(FunctionCache):
    """Numba's cache of one function. A full or read-only disk costs the next process a compilation, and no call."""

    def save_overload(self, sig: object, data: object) -> None:
        """Keep machine code, if the disk takes it."""
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)


def njit(**options: Any) -> Callable[[FunctionT], FunctionT]:
    """``numba.njit`` that releases the GIL, with a cache on disk that never fails a call.

    Parameters
    ----------
    options
        Further options of ``numba.njit``.
    """

    def decorate(function: FunctionT) -> FunctionT:
        dispatcher: Any = _njit(nogil=True, **options)(function)
        with contextlib.suppress(RuntimeError, OSError):  # no folder can be written
            dispatcher._cache = _ForgivingCache(function)  # what numba's own cache=True does
        return dispatcher

    return decorate
