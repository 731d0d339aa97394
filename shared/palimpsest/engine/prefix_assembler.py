"""Putting a request's past together: what arrives is kept in memory of its own until all before it is there."""

import logging
import time
from dataclasses import dataclass

import torch

from palimpsest.engine.external_prefix import ChunkOrigin, ExternalPrefix, Piece, PrefixChunk
from palimpsest.engine.requests import Request
from palimpsest.lm.blocks import BLOCK, PagedCache, prefix_keys
from palimpsest.lm.forward import Cache

log = logging.getLogger(__name__)


class PrefixAssembler:
    """The engine's side of one :class:`ExternalPrefix`; used on its thread alone.

    The prefix index gives exact blocks under plain keys and those that follow on loaded ones under salted keys.
    ``keys`` holds a key for each block of the request: plain up to the first block with a loaded token, salted from
    there on. So nothing that a loaded token has touched is ever found by a request that did not ask for it.

    Parameters
    ----------
    request
        With a past.
    keys
        The request's plain prefix keys; changed in place as loaded pieces join.
    cache
        The request's, empty.

    Attributes
    ----------
    how
        How each piece came that is in the cache by now.
    shared
        Tokens that the prefix index gave.
    """

    def __init__(self, request: Request, keys: list[bytes], cache: Cache) -> None:
        assert request.prefix is not None
        self.prefix: ExternalPrefix = request.prefix
        self.how: list[ChunkOrigin] = []
        self.shared = 0
        self._cache, self._keys, self._length = cache, keys, len(request.ids)
        self._salted = prefix_keys(request.ids[:-1], self.prefix.salt) if keys else []
        self._loaded_from: int | None = None
        self._ready: dict[int, _WaitingChunk] = {}
        self._refused: set[int] = set()
        self._began: dict[int, tuple[float, int]] = {}  # when, and from which position on
        self._loaded: set[int] = set()

    @property
    def done(self) -> bool:
        """Whether the whole past is in the cache."""
        return len(self.how) == len(self.prefix.pieces)

    @property
    def exact_tokens(self) -> int:
        """Leading tokens of the past before the first loaded one."""
        return self.prefix.tokens if self._loaded_from is None else min(self._loaded_from, self.prefix.tokens)

    def take(self) -> bool:
        """Take one piece that has arrived into memory; returns whether there was one."""
        arrival = self.prefix.take()
        if arrival is None:
            return False
        self._adopt()
        self._keep(arrival)
        arrival.let_go()
        return True

    def advance(self) -> int:
        """Join what is there.

        Returns
        -------
        int
            The position up to which tokens can be computed now; the cache's length if the next piece is not known
            yet.
        """
        while True:
            self._adopt()
            if self.done:
                return self._length
            piece = self._next
            ready = self._ready.pop(piece.index, None)
            if ready is None:
                known = self.prefix.to_recompute(piece.index) or piece.index in self._refused
                return piece.stop if known else self._cache.length
            self._join(piece, ready)

    def begin(self) -> None:
        """Take note that tokens of the next piece are computed from now on."""
        if not self.done:
            self._began.setdefault(self._next.index, (time.perf_counter(), self._cache.length))

    def passed(self) -> None:
        """Take note that the cache has grown."""
        while not self.done and self._cache.length >= self._next.stop:
            piece, now = self._next, time.perf_counter()
            began, start = self._began.get(piece.index, (now, piece.stop))
            held = start == piece.stop or piece.stop - start < BLOCK <= piece.tokens
            computed = ChunkOrigin.CACHED if held else ChunkOrigin.RECOMPUTED
            self.how.append(ChunkOrigin.LOADED if piece.index in self._loaded else computed)
            self.prefix.passed(piece, now - began)

    def release(self) -> None:
        """Give back what has not joined."""
        for ready in self._ready.values():
            if isinstance(ready.stretch, PagedCache):
                ready.stretch.release()
        self._ready.clear()

    @property
    def _next(self) -> Piece:
        return self.prefix.pieces[len(self.how)]

    def _keep(self, arrival: PrefixChunk) -> None:
        """Hold a piece in blocks of its own; what of it is in the cache already is left out."""
        piece, cache = arrival.piece, self._cache
        start = max(piece.start, cache.length)
        if start >= piece.stop or piece.index in self._began or piece.index in self._ready:
            return
        if not cache.accepts(arrival.keys, arrival.values):
            log.warning("a piece of shape %s does not fit the model's cache: recomputed", arrival.keys.shape)
            self._refused.add(piece.index)
            return
        keys, values = (part[:, :, start - piece.start :] for part in (arrival.keys, arrival.values))
        if isinstance(cache, PagedCache) and start % BLOCK == 0:
            stretch = PagedCache(cache.pool)
            stretch.load(keys, values)
            self._ready[piece.index] = _WaitingChunk(start, stretch)
        else:  # blocks of its own would begin elsewhere than the request's do
            self._ready[piece.index] = _WaitingChunk(start, (keys.clone(), values.clone()))

    def _join(self, piece: Piece, ready: "_WaitingChunk") -> None:
        cache = self._cache
        self._touched(cache.length)
        if isinstance(ready.stretch, PagedCache):
            assert isinstance(cache, PagedCache)
            cache.join(ready.stretch)
        else:
            cache.load(*ready.stretch)
        self._loaded.add(piece.index)
        self.passed()

    def _adopt(self) -> None:
        """Take over blocks from the prefix index, up to what has arrived: a token is never held twice."""
        cache = self._cache
        if not isinstance(cache, PagedCache):
            return
        stop = min((ready.start for ready in self._ready.values()), default=self._length)
        self.shared += cache.adopt(self._keys[: stop // BLOCK])
        block = cache.length // BLOCK
        salted = self._salted[block : stop // BLOCK]
        exact = self._loaded_from is None and cache.length % BLOCK == 0
        if exact and salted and cache.pool.find(salted[0]) is not None:
            self._touched(cache.length)
            self.shared += cache.adopt(self._keys[: stop // BLOCK])
        self.passed()

    def _touched(self, position: int) -> None:
        """Take note that loaded tokens begin here, if not before."""
        if self._loaded_from is None:
            self._loaded_from = position
            self._keys[position // BLOCK :] = self._salted[position // BLOCK :]


@dataclass(frozen=True, eq=False)
class _WaitingChunk:
    """A piece that waits for those before it, from position ``start`` on."""

    start: int
    stretch: PagedCache | tuple[torch.Tensor, torch.Tensor]
