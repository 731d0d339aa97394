"""Where asyncio and blocking code differ by more than a keyword: pauses, files, cancellation."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

LOCALLY_CANCELLED: tuple[type[BaseException], ...] = (asyncio.CancelledError,)
"""What a gRPC call raises here when this side cancelled it."""


async def pause(seconds: float) -> None:
    """Wait."""
    await asyncio.sleep(seconds)


async def off_loop(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run work that blocks, such as reading a file."""
    return await asyncio.to_thread(work, *args, **kwargs)
