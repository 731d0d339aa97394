"""The external prefix of a request: leading tokens whose keys and values are loaded, or recomputed if faster."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate

import torch

from palimpsest.errors import PalimpsestError


class ChunkOrigin(Enum):
    """How a chunk of an external prefix came into the cache."""

    LOADED = "loaded"
    RECOMPUTED = "recomputed"
    CACHED = "cached"
    """The prefix index had it, all but less than a block."""


@dataclass(frozen=True)
class ChunkSpan:
    """The token positions of one chunk; its tokens are loaded or recomputed together."""

    index: int
    start: int
    tokens: int

    @property
    def stop(self) -> int:
        """Position after the last token."""
        return self.start + self.tokens


@dataclass(frozen=True, eq=False)
class PrefixChunk:
    """Keys and values of one chunk on their way to the engine.

    Parameters
    ----------
    span
        Which tokens.
    keys, values
        [layers, kv_heads, tokens, head_dim].
    taken
        Done when the engine needs the tensors no longer.
    """

    span: ChunkSpan
    keys: torch.Tensor
    values: torch.Tensor
    taken: "Future[None]"

    def release(self) -> None:
        """Complete ``taken``, unless its owner has cancelled it."""
        if self.taken.set_running_or_notify_cancel():
            self.taken.set_result(None)


class ExternalPrefix:
    """What is known of a request's leading tokens. Any thread may add to it, in any order.

    A request waits while nothing is known of its next chunk; other requests do not. A chunk that has arrived wins over
    an order to recompute it, unless the computation has begun.

    Parameters
    ----------
    chunks
        Tokens of each chunk, from the first token on.
    salt
        Names where loaded keys and values come from and how they were coded. They are approximate, so the prefix index
        gives them only to requests with an equal salt.
    on_recomputed
        Called with a chunk's index and the seconds it took, for every chunk that was ordered recomputed; 0.0 seconds
        where it was in the cache already. Must return quickly: it runs on the engine's thread, or in
        :meth:`recompute`.

    Attributes
    ----------
    chunks, tokens
        The chunks with their positions, and how many tokens they have together.
    error
        The error given to :meth:`failed`.
    """

    def __init__(
        self,
        chunks: Sequence[int],
        salt: bytes = b"",
        on_recomputed: Callable[[int, float], object] = lambda index, seconds: None,
    ) -> None:
        if not chunks or min(chunks) < 1:
            raise ValueError(f"chunks of {list(chunks)} tokens: there must be at least one, and none empty")
        starts = accumulate(chunks, initial=0)
        self.chunks = tuple(
            ChunkSpan(n, start, tokens) for n, (tokens, start) in enumerate(zip(chunks, starts, strict=False))
        )
        self.tokens = self.chunks[-1].stop
        self.salt = salt
        self.error: PalimpsestError | None = None
        self._on_recomputed = on_recomputed
        self._lock = threading.Lock()
        self._arrived: dict[int, PrefixChunk] = {}
        self._ordered: set[int] = set()
        self._rest = False
        self._passed = 0
        self._wake: Callable[[], None] | None = None
        self._closed = False

    # Called from any thread.

    def arrived(self, index: int, keys: torch.Tensor, values: torch.Tensor) -> "Future[None]":
        """Hand over a chunk's keys and values.

        Parameters
        ----------
        index
            Which chunk.
        keys, values
            [layers, kv_heads, tokens, head_dim], keys with the model's rotary positions applied. The engine does not
            write to them, and the caller must not until they are taken.

        Returns
        -------
        Future
            Done when the tensors are in the engine's memory, or not wanted. A caller that waits for it before it hands
            over the next chunk holds at most one chunk beside the cache, however long the request is queued.

        Raises
        ------
        ValueError
            Keys or values do not have the chunk's number of tokens.
        """
        span = self.chunks[index]
        if keys.ndim != 4 or values.ndim != 4 or {keys.shape[2], values.shape[2]} != {span.tokens}:
            raise ValueError(f"chunk {index} has {span.tokens} tokens; these are {list(keys.shape)}")
        chunk = PrefixChunk(span, keys, values, Future())
        with self._lock:
            unwanted = chunk if self._closed or index < self._passed else self._arrived.get(index)
            if unwanted is not chunk:
                self._arrived[index] = chunk
        if unwanted is not None:
            unwanted.release()
        self._notify()
        return chunk.taken

    def recompute(self, index: int) -> None:
        """Let the engine prefill a chunk, once everything before it is in the cache."""
        with self._lock:
            self._ordered.add(index)
            passed = index < self._passed
        if passed:
            self._on_recomputed(index, 0.0)
        else:
            self._notify()

    def recompute_rest(self) -> None:
        """Let the engine prefill every chunk that has not arrived: no more will."""
        self._rest = True
        self._notify()

    def failed(self, error: PalimpsestError) -> None:
        """End the request with an error."""
        self.error = error
        self._notify()

    def _notify(self) -> None:
        wake = self._wake
        if wake is not None:
            wake()

    # Called by the engine.

    def attach(self, wake: Callable[[], None]) -> None:
        """Set the function that wakes the engine.

        Raises
        ------
        ValueError
            Another request has this prefix already.
        """
        if self._wake is not None:
            raise ValueError("this prefix belongs to a request already")
        self._wake = wake

    def take(self) -> PrefixChunk | None:
        """Return the earliest chunk that has arrived; the caller releases it."""
        with self._lock:
            return self._arrived.pop(min(self._arrived)) if self._arrived else None

    def to_recompute(self, index: int) -> bool:
        """Whether a chunk is to be prefilled."""
        return self._rest or index in self._ordered

    def passed(self, span: ChunkSpan, seconds: float) -> None:
        """Record that a chunk is in the cache, however it came there, after ``seconds`` of computing it."""
        with self._lock:
            self._passed = span.index + 1
            ordered = span.index in self._ordered
        if ordered:
            self._on_recomputed(span.index, seconds)

    def close(self) -> None:
        """Release chunks that will not be taken any more."""
        with self._lock:
            self._closed = True
            left, self._arrived = list(self._arrived.values()), {}
        for chunk in left:
            chunk.release()
