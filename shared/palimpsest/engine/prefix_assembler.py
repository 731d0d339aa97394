"""Assembling a request's external prefix: what arrives is kept in blocks of its own until all before it is there."""

import logging
import time
from dataclasses import dataclass

import torch

from palimpsest.engine.external_prefix import ChunkOrigin, ChunkSpan, ExternalPrefix, PrefixChunk
from palimpsest.engine.requests import Request
from palimpsest.lm.blocks import BLOCK, prefix_keys
from palimpsest.lm.forward import Cache
from palimpsest.lm.paged_cache import PagedCache

log = logging.getLogger(__name__)


class PrefixAssembler:
    """The engine's side of one :class:`ExternalPrefix`; used on the engine's thread alone.

    The prefix index holds exact blocks under plain keys, and those that follow loaded ones under salted keys: the
    request's own salt is in both, the external prefix's in the latter. ``keys`` has a key for each block of the
    request: plain up to the first block with a loaded token, salted from there on. So a request never finds a block
    that a loaded token has influenced unless it asked for the same load.

    Parameters
    ----------
    request
        With an external prefix.
    keys
        The request's plain prefix keys; changed in place as loaded chunks join.
    cache
        The request's, empty.

    Attributes
    ----------
    origins
        The origin of each chunk that is in the cache by now.
    shared
        Tokens that the prefix index gave.
    """

    def __init__(self, request: Request, keys: list[bytes], cache: Cache) -> None:
        assert request.prefix is not None
        self.prefix: ExternalPrefix = request.prefix
        self.origins: list[ChunkOrigin] = []
        self.shared = 0
        self._cache, self._keys, self._length = cache, keys, len(request.ids)
        self._salted = prefix_keys(request.ids[:-1], request.salt + self.prefix.salt) if keys else []
        self._loaded_from: int | None = None
        self._waiting: dict[int, _WaitingChunk] = {}
        self._refused: set[int] = set()
        self._began: dict[int, tuple[float, int]] = {}  # when, and from which position on
        self._loaded: set[int] = set()

    @property
    def done(self) -> bool:
        """Whether the whole prefix is in the cache."""
        return len(self.origins) == len(self.prefix.chunks)

    @property
    def exact_tokens(self) -> int:
        """Leading tokens of the prefix before the first loaded one."""
        return self.prefix.tokens if self._loaded_from is None else min(self._loaded_from, self.prefix.tokens)

    def take(self) -> bool:
        """Copy one chunk that has arrived into blocks; returns whether there was one."""
        chunk = self.prefix.take()
        if chunk is None:
            return False
        self._adopt()
        self._keep(chunk)
        chunk.release()
        return True

    def advance(self) -> int:
        """Join the chunks that are next and here.

        Returns
        -------
        int
            The position up to which tokens can be computed now; the cache's length if nothing is known of the next
            chunk yet.
        """
        while True:
            self._adopt()
            if self.done:
                return self._length
            span = self._next
            waiting = self._waiting.pop(span.index, None)
            if waiting is None:
                known = self.prefix.to_recompute(span.index) or span.index in self._refused
                return span.stop if known else self._cache.length
            self._join(span, waiting)

    def begin(self) -> None:
        """Record that the next chunk's tokens are computed from now on."""
        if not self.done:
            self._began.setdefault(self._next.index, (time.perf_counter(), self._cache.length))

    def passed(self) -> None:
        """Record that the cache has grown."""
        while not self.done and self._cache.length >= self._next.stop:
            span, now = self._next, time.perf_counter()
            began, start = self._began.get(span.index, (now, span.stop))
            cached = start == span.stop or span.stop - start < BLOCK <= span.tokens
            computed = ChunkOrigin.CACHED if cached else ChunkOrigin.RECOMPUTED
            self.origins.append(ChunkOrigin.LOADED if span.index in self._loaded else computed)
            self.prefix.passed(span, now - began)

    def release(self) -> None:
        """Give back the blocks that have not joined."""
        for waiting in self._waiting.values():
            if isinstance(waiting.content, PagedCache):
                waiting.content.release()
        self._waiting.clear()

    @property
    def _next(self) -> ChunkSpan:
        return self.prefix.chunks[len(self.origins)]

    def _keep(self, chunk: PrefixChunk) -> None:
        """Copy a chunk into blocks of its own, without the tokens that the cache has already."""
        span, cache = chunk.span, self._cache
        start = max(span.start, cache.length)
        if start >= span.stop or span.index in self._began or span.index in self._waiting:
            return
        if not cache.accepts(chunk.keys, chunk.values):
            log.warning("a chunk of shape %s does not fit the model's cache: recomputed", chunk.keys.shape)
            self._refused.add(span.index)
            return
        keys, values = (part[:, :, start - span.start :] for part in (chunk.keys, chunk.values))
        if isinstance(cache, PagedCache) and start % BLOCK == 0:
            blocks = PagedCache(cache.pool)
            blocks.load(keys, values)
            self._waiting[span.index] = _WaitingChunk(start, blocks)
        else:  # its blocks would begin elsewhere than the request's do
            self._waiting[span.index] = _WaitingChunk(start, (keys.clone(), values.clone()))

    def _join(self, span: ChunkSpan, waiting: "_WaitingChunk") -> None:
        cache = self._cache
        self._mark_loaded(cache.length)
        if isinstance(waiting.content, PagedCache):
            assert isinstance(cache, PagedCache)
            cache.join(waiting.content)
        else:
            cache.load(*waiting.content)
        self._loaded.add(span.index)
        self.passed()

    def _adopt(self) -> None:
        """Take over blocks from the prefix index, up to the first chunk that waits: no token is held twice."""
        cache = self._cache
        if not isinstance(cache, PagedCache):
            return
        stop = min((waiting.start for waiting in self._waiting.values()), default=self._length)
        self.shared += cache.adopt(self._keys[: stop // BLOCK])
        block = cache.length // BLOCK
        salted = self._salted[block : stop // BLOCK]
        exact = self._loaded_from is None and cache.length % BLOCK == 0
        if exact and salted and cache.pool.find(salted[0]) is not None:
            self._mark_loaded(cache.length)
            self.shared += cache.adopt(self._keys[: stop // BLOCK])
        self.passed()

    def _mark_loaded(self, position: int) -> None:
        """Record that loaded tokens begin here, if they did not begin before; keys are salted from here on."""
        if self._loaded_from is None:
            self._loaded_from = position
            self._keys[position // BLOCK :] = self._salted[position // BLOCK :]


@dataclass(frozen=True, eq=False)
class _WaitingChunk:
    """A chunk that waits for those before it; ``content`` begins at position ``start``."""

    start: int
    content: PagedCache | tuple[torch.Tensor, torch.Tensor]
