"""Deletions during generation: published by one thread, applied by the engine's, awaited by a third."""

import threading
import time
import weakref


class Reader:
    """One generation: the version of the revocations that it has applied. Held weakly."""

    def __init__(self, version: int) -> None:
        self.seen = version


class Revocations:
    """Documents that must no longer be quoted, whatever candidate block contains them.

    ::

        mark = revocations.revoke("corpora/c", "contract-7")     # from the thread that receives deletions
        revocations.wait(mark, timeout=3.0)                      # no generation uses it any longer

    A generation compares one number before each proposal, and again before it reports a span.
    """

    def __init__(self) -> None:
        self._dead: dict[tuple[str, str], int | None] = {}
        self._suspended: set[str] = set()
        self._readers: weakref.WeakSet[Reader] = weakref.WeakSet()
        self._changed = threading.Condition()
        self.version = 0

    def revoke(self, corpus: str, document: str, version: int | None = None) -> int:
        """Revoke the versions of a document up to this one, or all.

        Returns
        -------
        int
            The version to :meth:`wait` for.
        """
        with self._changed:
            before = self._dead.get((corpus, document), 0)
            all_of_it = version is None or before is None
            self._dead[corpus, document] = None if all_of_it else max(before or 0, version or 0)
            return self._bump()

    def suspend(self, corpus: str) -> int:
        """Revoke a whole corpus, because its deletions no longer arrive."""
        with self._changed:
            self._suspended.add(corpus)
            return self._bump()

    def is_dead(self, corpus: str, document: str, version: int) -> bool:
        """Whether a document's version must not be quoted."""
        with self._changed:
            if corpus in self._suspended:
                return True
            last = self._dead.get((corpus, document), 0)
            return last is None or version <= last

    def join(self) -> Reader:
        """Take part until the returned object is garbage or :meth:`leave` is called."""
        with self._changed:
            reader = Reader(-1)
            self._readers.add(reader)
            return reader

    def applied(self, reader: Reader, version: int) -> None:
        """Report that a generation uses nothing that was revoked up to a version."""
        if reader.seen != version:
            with self._changed:
                reader.seen = version
                self._changed.notify_all()

    def leave(self, reader: Reader) -> None:
        """Stop taking part."""
        with self._changed:
            self._readers.discard(reader)
            self._changed.notify_all()

    def wait(self, version: int, timeout: float) -> bool:
        """Wait until every running generation has applied a version; returns whether all have."""
        end = time.monotonic() + timeout
        with self._changed:
            while any(reader.seen < version for reader in self._readers):
                left = end - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(min(left, 0.1))  # a reader may also be garbage-collected
        return True

    def _bump(self) -> int:
        self.version += 1
        return self.version
