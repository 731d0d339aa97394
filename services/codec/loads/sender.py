"""A chunk that is being sent, read from the store frame by frame."""

import asyncio
from collections.abc import Callable, Generator
from contextlib import suppress

from palimpsest.errors import DataLoss, PalimpsestError, Reason
from services.codec.loads.window import Window


class ChunkSender:
    """One chunk at one level on its way to the receiver.

    Parameters
    ----------
    chunk
        Its index in the load.
    level
        The level it is sent at.
    size
        Its bytes.
    begun
        Seconds from the start of the load.
    window
        Counts what is sent.
    open_chunk
        Opens the stored chunk: a generator of verified blocks of bytes.

    Attributes
    ----------
    sent
        Bytes of this chunk that were sent.
    check_at
        When the chunk counts as late, in seconds from the start of the load.
    """

    def __init__(
        self,
        chunk: int,
        level: str,
        size: int,
        begun: float,
        window: Window,
        open_chunk: Callable[[], Generator[bytes]],
    ) -> None:
        self.chunk, self.level, self.size, self.begun = chunk, level, size, begun
        self.sent = 0
        self.check_at = float("inf")
        self._window, self._open = window, open_chunk
        self._first = window.sent
        self._blocks: Generator[bytes] | None = None
        self._block = b""

    @property
    def left(self) -> int:
        """Bytes still to send."""
        return self.size - self.sent

    @property
    def arrived(self) -> int:
        """Bytes of this chunk that the receiver has acknowledged."""
        return max(0, self._window.acknowledged - self._first)

    async def frame(self) -> bytes:
        """Return the next frame, and count it as sent of this chunk.

        Raises
        ------
        DataLoss, NotFound
            The stored chunk is damaged, too short or gone.
        """
        if self._blocks is None:
            self._blocks = await asyncio.to_thread(self._open)
        if not self._block:
            self._block = await asyncio.to_thread(next, self._blocks, b"")
            if not self._block:
                raise DataLoss(Reason.ARTIFACT_CORRUPT, "A stored chunk is shorter than its record says.")
        size = self._window.frame
        data, self._block = self._block[:size], self._block[size:]
        self.sent += len(data)
        return data

    def close(self) -> None:
        """Stop reading the stored chunk."""
        if self._blocks is not None:
            with suppress(PalimpsestError, ValueError):
                self._blocks.close()
