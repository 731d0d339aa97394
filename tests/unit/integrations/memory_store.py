"""A context store in this process's memory, for tests of connectors."""

from collections.abc import Iterator, Sequence
from threading import Lock

from palimpsest.errors import DataLoss
from palimpsest.integrations.contexts import Match, digest_of
from palimpsest.kv import CalibrationProfile, Identity, KeyValues, Rotary, decode, encode


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
