"""Waiting for a condition in tests: polled, bounded, and with a useful failure."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], timeout: float = 30.0, interval: float = 0.02) -> T:
    """Return the first truthy value of condition(); fail after timeout seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"still {value!r} after {timeout} s: {condition}")
        time.sleep(interval)


async def until_async(
    condition: Callable[[], Awaitable[T]], timeout: float = 30.0, interval: float = 0.02
) -> T:
    """Return the first truthy value of await condition(); fail after timeout seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = await condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"still {value!r} after {timeout} s: {condition}")
        await asyncio.sleep(interval)
