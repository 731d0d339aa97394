"""The past of a request that comes from elsewhere: leading tokens whose keys and values are loaded or recomputed."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate

import torch

from palimpsest.errors import PalimpsestError


class ChunkOrigin(Enum):
    """How a piece of the past came into the cache."""

    LOADED = "loaded"
    RECOMPUTED = "recomputed"
    CACHED = "held"
    """It was in the prefix index, all but less than a block."""


@dataclass(frozen=True)
class Piece:
    """Consecutive tokens that are loaded or recomputed together."""

    index: int
    start: int
    tokens: int

    @property
    def stop(self) -> int:
        """Position after the last token."""
        return self.start + self.tokens


@dataclass(frozen=True, eq=False)
class PrefixChunk:
    """Keys and values of a piece, on their way to the engine; ``taken`` is done when they are no longer needed."""

    piece: Piece
    keys: torch.Tensor
    values: torch.Tensor
    taken: "Future[None]"

    def let_go(self) -> None:
        """Say that the tensors are no longer needed, to whoever still waits for that."""
        if self.taken.set_running_or_notify_cancel():
            self.taken.set_result(None)


class ExternalPrefix:
    """What is known of a request's leading tokens, told from any thread, in any order.

    A piece of which nothing is known yet makes its request wait, and no other. Numbers that have arrived go before
    an order to recompute, unless that has begun.

    Parameters
    ----------
    pieces
        Tokens of each piece, from the first token on.
    salt
        Names where loaded keys and values come from and how. They are approximate, so only requests with an equal
        salt find them in the prefix index.
    on_recomputed
        Called with a piece's number and the seconds it took, for every piece of which ``recompute`` was said: 0.0
        where it was there already. Must be quick; called on the engine's thread, or by ``recompute`` itself.

    Attributes
    ----------
    pieces, tokens
        The pieces with their positions, and how many tokens they are in all.
    error
        What :meth:`failed` said.
    """

    def __init__(
        self,
        pieces: Sequence[int],
        salt: bytes = b"",
        on_recomputed: Callable[[int, float], object] = lambda index, seconds: None,
    ) -> None:
        if not pieces or min(pieces) < 1:
            raise ValueError(f"pieces of {list(pieces)} tokens; there is at least one, and none is empty")
        starts = accumulate(pieces, initial=0)
        self.pieces = tuple(
            Piece(n, start, tokens) for n, (tokens, start) in enumerate(zip(pieces, starts, strict=False))
        )
        self.tokens = self.pieces[-1].stop
        self.salt = salt
        self.error: PalimpsestError | None = None
        self._on_recomputed = on_recomputed
        self._lock = threading.Lock()
        self._arrivals: dict[int, PrefixChunk] = {}
        self._ordered: set[int] = set()
        self._rest = False
        self._passed = 0
        self._wake: Callable[[], None] | None = None
        self._closed = False

    # Called from any thread.

    def arrived(self, index: int, keys: torch.Tensor, values: torch.Tensor) -> "Future[None]":
        """Give a piece's keys and values.

        Parameters
        ----------
        index
            Which piece.
        keys, values
            [layers, kv_heads, tokens, head_dim], keys rotated as the model has them. Not written to; not to be
            written to until taken.

        Returns
        -------
        Future
            Done when the tensors are in the engine's memory, or of no use. Who waits for it before giving more has
            one piece beside the cache at most, however long the request waits for a place.

        Raises
        ------
        ValueError
            Keys or values are not of the piece's tokens.
        """
        piece = self.pieces[index]
        if keys.ndim != 4 or values.ndim != 4 or {keys.shape[2], values.shape[2]} != {piece.tokens}:
            raise ValueError(f"piece {index} is of {piece.tokens} tokens; these are {list(keys.shape)}")
        arrival = PrefixChunk(piece, keys, values, Future())
        with self._lock:
            unwanted = arrival if self._closed or index < self._passed else self._arrivals.get(index)
            if unwanted is not arrival:
                self._arrivals[index] = arrival
        if unwanted is not None:
            unwanted.let_go()
        self._tell()
        return arrival.taken

    def recompute(self, index: int) -> None:
        """Let the engine prefill a piece, once everything before it is there."""
        with self._lock:
            self._ordered.add(index)
            passed = index < self._passed
        if passed:
            self._on_recomputed(index, 0.0)
        else:
            self._tell()

    def recompute_rest(self) -> None:
        """Let the engine prefill whatever has not arrived: nothing more will come."""
        self._rest = True
        self._tell()

    def failed(self, error: PalimpsestError) -> None:
        """End the request with an error."""
        self.error = error
        self._tell()

    def _tell(self) -> None:
        wake = self._wake
        if wake is not None:
            wake()

    # Called by the engine.

    def attach(self, wake: Callable[[], None]) -> None:
        """Say whom to wake; a past belongs to one request."""
        if self._wake is not None:
            raise ValueError("this past belongs to a request already")
        self._wake = wake

    def take(self) -> PrefixChunk | None:
        """The earliest piece of those that have arrived; the caller completes its ``taken``."""
        with self._lock:
            return self._arrivals.pop(min(self._arrivals)) if self._arrivals else None

    def to_recompute(self, index: int) -> bool:
        """Whether a piece is to be prefilled."""
        return self._rest or index in self._ordered

    def passed(self, piece: Piece, seconds: float) -> None:
        """Take note that a piece is in the cache, whichever way, after ``seconds`` of computing it."""
        with self._lock:
            self._passed = piece.index + 1
            ordered = piece.index in self._ordered
        if ordered:
            self._on_recomputed(piece.index, seconds)

    def close(self) -> None:
        """Let go of what nobody will take any more."""
        with self._lock:
            self._closed = True
            left, self._arrivals = list(self._arrivals.values()), {}
        for arrival in left:
            arrival.let_go()
