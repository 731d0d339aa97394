"""Deletions that reach generations under way: told by one thread, heeded by the engine's, waited for by a third."""

import threading
import time
import weakref


class Reader:
    """One generation's side: how far it has heeded what was told. Forgotten with the generation."""

    def __init__(self, version: int) -> None:
        self.seen = version


class Revocations:
    """Documents that must not be quoted any more, whatever candidate block they are in.

    ::

        mark = revocations.revoke("corpora/c", "contract-7")     # from the thread that hears of deletions
        revocations.wait(mark, timeout=3.0)                      # no generation uses it any more

    A generation compares one number before each proposal, and again before it tells of what it took.
    """

    def __init__(self) -> None:
        self._dead: dict[tuple[str, str], int | None] = {}
        self._suspended: set[str] = set()
        self._readers: weakref.WeakSet[Reader] = weakref.WeakSet()
        self._changed = threading.Condition()
        self.version = 0

    def revoke(self, corpus: str, document: str, version: int | None = None) -> int:
        """Revoke a document's versions up to this one, or all.

        Returns
        -------
        int
            What to :meth:`wait` for.
        """
        with self._changed:
            before = self._dead.get((corpus, document), 0)
            all_of_it = version is None or before is None
            self._dead[corpus, document] = None if all_of_it else max(before or 0, version or 0)
            return self._bump()

    def suspend(self, corpus: str) -> int:
        """Quote nothing of a corpus: its deletions can no longer be heard of."""
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
        """Take part, until the returned object is gone or :meth:`leave` is called."""
        with self._changed:
            reader = Reader(-1)
            self._readers.add(reader)
            return reader

    def heeded(self, reader: Reader, version: int) -> None:
        """Say that nothing is used any more that was revoked up to a version."""
        if reader.seen != version:
            with self._changed:
                reader.seen = version
                self._changed.notify_all()

    def leave(self, reader: Reader) -> None:
        """Take part no more."""
        with self._changed:
            self._readers.discard(reader)
            self._changed.notify_all()

    def wait(self, version: int, timeout: float) -> bool:
        """Wait until every generation under way has heeded a version; returns whether they have."""
        end = time.monotonic() + timeout
        with self._changed:
            while any(reader.seen < version for reader in self._readers):
                left = end - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(min(left, 0.1))  # a reader may also just be forgotten
        return True

    def _bump(self) -> int:
        self.version += 1
        return self.version
