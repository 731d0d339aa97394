"""Where an engine's connector finds contexts and puts them: a server, or this process's memory."""

import hashlib
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from palimpsest.errors import DataLoss
from palimpsest.kv import CalibrationProfile, Identity, KeyValues, Rotary, decode, encode

if TYPE_CHECKING:
    from palimpsest.client import Client


class Match(NamedTuple):
    """A stored context that a text begins with: its name, and how many of its tokens and whole chunks."""

    name: str
    tokens: int
    chunks: int


class ContextStore(Protocol):
    """What a connector needs. Every method may raise ``PalimpsestError``, upon which the engine recomputes."""

    def look_up(self, ids: Sequence[int]) -> Match | None:
        """Return the longest stored prefix of a text, or None."""
        ...

    def load(self, match: Match) -> Iterator[KeyValues]:
        """Yield the matched stretches as they come, in any order; those that cannot be had are left out."""
        ...

    def put(self, ids: Sequence[int], kv: KeyValues) -> None:
        """Store a context, which begins at position 0."""
        ...

    def close(self) -> None:
        """Give back what the store holds open."""
        ...


class MemoryStore:
    """Contexts of this process, coded as a server codes them; chunks that texts share are kept once.

    Parameters
    ----------
    chunk_tokens
        Tokens of a chunk.
    level, profile, rotary
        As in ``palimpsest.kv.encode``; without a profile, the generic codec.
    """

    def __init__(
        self,
        *,
        chunk_tokens: int = 512,
        level: str = "balanced",
        profile: CalibrationProfile | None = None,
        rotary: Rotary | None = None,
    ) -> None:
        self.chunk_tokens = chunk_tokens
        self._level, self._profile, self._rotary = level, profile, rotary
        self._lock = Lock()
        self.chunks: dict[str, bytes] = {}
        """Coded chunks by the digest of the token ids up to their end."""
        self._contexts: dict[str, list[str]] = {}

    def look_up(self, ids: Sequence[int]) -> Match | None:
        """Return the longest stored prefix, in whole chunks."""
        digests = []
        with self._lock:
            for end in range(self.chunk_tokens, len(ids) + 1, self.chunk_tokens):
                digest = digest_of(ids[:end])
                if digest not in self.chunks:
                    break
                digests.append(digest)
            if not digests:
                return None
            self._contexts[digests[-1]] = digests
        return Match(digests[-1], len(digests) * self.chunk_tokens, len(digests))

    def load(self, match: Match) -> Iterator[KeyValues]:
        """Yield the chunks that are not damaged."""
        with self._lock:
            found = [(digest, self.chunks.get(digest)) for digest in self._contexts.get(match.name, [])]
        for digest, data in found[: match.chunks]:
            if data is None:
                continue
            try:
                yield decode(data, profile=self._profile, identity=Identity(prefix=digest))
            except DataLoss:
                continue

    def put(self, ids: Sequence[int], kv: KeyValues) -> None:
        """Store every whole chunk that is not there yet."""
        for part in kv.chunks(self.chunk_tokens):
            digest = digest_of(ids[: part.start + part.tokens])
            if part.tokens < self.chunk_tokens or digest in self.chunks:
                continue
            data = encode(
                part,
                levels=[self._level],
                codec="transform" if self._profile else "generic",
                profile=self._profile,
                rotary=self._rotary,
                identity=Identity(prefix=digest),
            )[self._level]
            with self._lock:
                self.chunks[digest] = data

    def close(self) -> None:
        """Keep everything; there is nothing to give back."""


class ServerStore:
    """Contexts of a Palimpsest server.

    Parameters
    ----------
    client
        Open connection; closed with the store.
    model
        The model's id at the server.
    levels
        Levels that may be sent; none: the server chooses.
    timeout
        Seconds that a look-up, for which the engine's scheduler waits, may take.
    """

    def __init__(
        self, client: "Client", model: str, *, levels: Sequence[str] = (), timeout: float = 1.0
    ) -> None:
        self._client, self._model = client, model
        self._levels, self._timeout = list(levels), timeout

    def look_up(self, ids: Sequence[int]) -> Match | None:
        """Ask the server for the longest stored prefix."""
        found = self._client.codec.look_up_context(model=self._model, tokens=list(ids), timeout=self._timeout)
        return Match(found.name, found.matched_tokens, found.chunks) if found.name else None

    def load(self, match: Match) -> Iterator[KeyValues]:
        """Receive the matched chunks; what is damaged is sent again, and given up after some attempts."""
        from palimpsest.client.loading import ChunkLoaded

        settings = {"levels": self._levels}
        with self._client.codec.receive(match.name, settings=settings, chunks=match.chunks) as events:
            for event in events:
                if isinstance(event, ChunkLoaded):
                    yield event.kv

    def put(self, ids: Sequence[int], kv: KeyValues) -> None:
        """Send the context to be coded and stored."""
        self._client.codec.put(model=self._model, tokens=ids, kv=kv)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def digest_of(ids: Sequence[int]) -> str:
    """Return the digest that the contract gives a stretch of token ids: SHA-256 over little-endian 32-bit numbers."""
    return "sha256:" + hashlib.sha256(np.asarray(ids, dtype="<u4").tobytes()).hexdigest()
