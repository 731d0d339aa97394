"""What attempts leave behind that die: looked for again and again, by the room whose jobs they were."""

import asyncio
from collections.abc import Callable

import structlog

from palimpsest.errors import PalimpsestError

_log = structlog.get_logger(__name__)


async def sweep_repeatedly(sweep: Callable[[], None], interval: float = 10.0) -> None:
    """Sweep in a thread until cancelled, whatever happens meanwhile.

    Parameters
    ----------
    sweep
        Looks once. Blocks, and may run in several servers at once.
    interval
        Seconds between two looks.
    """
    while True:
        try:
            await asyncio.to_thread(sweep)
        except PalimpsestError as error:
            _log.warning("sweep failed", error=str(error))
        except Exception:  # a bug must not end the only loop that clears up
            _log.exception("sweep failed")
        await asyncio.sleep(interval)
