"""Where asyncio and blocking code differ by more than a keyword: pauses, files, cancellation."""

import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

LOCALLY_CANCELLED: tuple[type[BaseException], ...] = ()
"""Blocking calls say CANCELLED in a status and raise nothing of their own."""


def pause(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)


def off_loop(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run work that blocks, such as reading a file."""
    return work(*args, **kwargs)
