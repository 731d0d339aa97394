"""Where an engine's connector finds contexts and puts them: a Palimpsest server."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from palimpsest.kv import KeyValues

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
        """Yield the matched chunks as they arrive, in any order; those that cannot be loaded are left out."""
        ...

    def put(self, ids: Sequence[int], kv: KeyValues) -> None:
        """Store a context, which begins at position 0."""
        ...

    def close(self) -> None:
        """Close what the store holds open."""
        ...


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
    prefill_tokens_per_second
        Speed of the engine; 0: not known. A load that takes longer than the engine would is given up, and what is
        missing is computed: at worst that is twice the time of computing it at once.
    """

    def __init__(
        self,
        client: "Client",
        model: str,
        *,
        levels: Sequence[str] = (),
        timeout: float = 1.0,
        prefill_tokens_per_second: float = 0.0,
    ) -> None:
        self._client, self._model = client, model
        self._levels, self._timeout, self._speed = list(levels), timeout, prefill_tokens_per_second

    def look_up(self, ids: Sequence[int]) -> Match | None:
        """Ask the server for the longest stored prefix."""
        found = self._client.codec.look_up_context(model=self._model, tokens=list(ids), timeout=self._timeout)
        return Match(found.name, found.matched_tokens, found.chunks) if found.name else None

    def load(self, match: Match) -> Iterator[KeyValues]:
        """Receive the matched chunks; what is damaged is sent again, and given up after some attempts.

        Raises
        ------
        DeadlineExceeded
            The engine would have computed them by now.
        """
        from palimpsest.client.loading import ChunkLoaded

        settings = {"levels": self._levels}
        timeout = match.tokens / self._speed if self._speed > 0 else None
        receiving = self._client.codec.receive(
            match.name, settings=settings, chunks=match.chunks, timeout=timeout
        )
        with receiving as events:
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
    """Return the digest that the contract gives some token ids: SHA-256 over little-endian 32-bit integers."""
    return "sha256:" + hashlib.sha256(np.asarray(ids, dtype="<u4").tobytes()).hexdigest()
