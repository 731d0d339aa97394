"""A cache that keeps the entries used last, bounded by their number and, if asked, by their weight."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class _Turn:
    """The threads that want one value made: one makes it, the others wait."""

    def __init__(self) -> None:
        self.lock, self.threads = threading.Lock(), 0


class LruCache(Generic[K, V]):
    """The entries used last; older ones are evicted. May be used from any thread.

    Values are anything but None.

    ::

        tokenizers = LruCache[str, Tokenizer](8)
        tokenizer = tokenizers.get_or_make(fingerprint, lambda: Tokenizer.from_file(path))

    Parameters
    ----------
    entries
        Most entries.
    weigh
        Returns the weight of a value, for example its bytes; None: entries have no weight.
    weight
        Greatest sum of weights. An entry that alone weighs more is kept until another one is added.
    evicted
        Called with every key and value that are evicted, after the cache's lock was released. It is not called for a
        value that ``put`` replaces, nor by ``clear``.

    Raises
    ------
    ValueError
        ``entries`` is below 1, or only one of ``weigh`` and ``weight`` is given.
    """

    def __init__(
        self,
        entries: int,
        *,
        weigh: Callable[[V], int] | None = None,
        weight: int | None = None,
        evicted: Callable[[K, V], object] | None = None,
    ) -> None:
        if entries < 1:
            raise ValueError("A cache holds at least one entry.")
        if (weigh is None) != (weight is None):
            raise ValueError("Give weigh and weight together.")
        self._most, self._weigh, self._limit, self._evicted = entries, weigh, weight, evicted
        self._lock = threading.Lock()
        self._turns: dict[K, _Turn] = {}
        self._held: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._weight = 0

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, key: K) -> bool:
        return key in self._held

    @property
    def weight(self) -> int:
        """Sum of the weights of all entries."""
        return self._weight

    def get(self, key: K) -> V | None:
        """Return the value of a key, which is now the one used last; None if there is none."""
        with self._lock:
            return self._find(key)

    def put(self, key: K, value: V) -> V:
        """Set the value of a key and return it; entries used longest ago are evicted to make room."""
        with self._lock:
            evicted = self._put(key, value)
        self._tell(evicted)
        return value

    def setdefault(self, key: K, value: V) -> V:
        """Return the value of a key, which becomes ``value`` if there is none."""
        with self._lock:
            found = self._find(key)
            if found is not None:
                return found
            evicted = self._put(key, value)
        self._tell(evicted)
        return value

    def get_or_make(self, key: K, make: Callable[[], V]) -> V:
        """Return the value of a key; make and keep it if there is none.

        Threads that ask for one key at the same time wait for the first: ``make`` runs once, and is tried again by the
        next thread if it fails. Other keys are not held up. Whatever ``make`` raises goes through.
        """
        with self._lock:
            found = self._find(key)
            if found is not None:
                return found
            turn = self._turns.setdefault(key, _Turn())
            turn.threads += 1
        try:
            with turn.lock:
                found = self.get(key)
                return found if found is not None else self.put(key, make())
        finally:
            with self._lock:
                turn.threads -= 1
                if not turn.threads:
                    del self._turns[key]

    def pop(self, key: K) -> V | None:
        """Remove an entry and return its value; None if there is none."""
        with self._lock:
            if key not in self._held:
                return None
            value, weight = self._held.pop(key)
            self._weight -= weight
            return value

    def clear(self) -> None:
        """Remove every entry."""
        with self._lock:
            self._held.clear()
            self._weight = 0

    def _find(self, key: K) -> V | None:
        if key not in self._held:
            return None
        self._held.move_to_end(key)
        return self._held[key][0]

    def _put(self, key: K, value: V) -> list[tuple[K, V]]:
        """Add an entry under the lock; returns those that were evicted for it."""
        if key in self._held:
            self._weight -= self._held.pop(key)[1]
        weight = self._weigh(value) if self._weigh is not None else 0
        self._held[key] = value, weight
        self._weight += weight
        evicted: list[tuple[K, V]] = []
        while len(self._held) > self._most or self._too_heavy():
            oldest, (value, weight) = self._held.popitem(last=False)
            self._weight -= weight
            evicted.append((oldest, value))
        return evicted

    def _too_heavy(self) -> bool:
        return self._limit is not None and self._weight > self._limit and len(self._held) > 1

    def _tell(self, evicted: list[tuple[K, V]]) -> None:
        if self._evicted is not None:
            for key, value in evicted:
                self._evicted(key, value)
