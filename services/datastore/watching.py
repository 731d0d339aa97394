"""Who must know of deletions, and how far each has said that it does."""

import asyncio
import contextlib
import time
from collections.abc import Iterable

from palimpsest.errors import Aborted, Reason
from services.datastore.store.corpus import Corpus
from services.datastore.store.results import Gone

POLL_SECONDS = 0.25
"""How often a watcher looks for deletions that other processes made."""


class Watcher:
    """One stream: corpora, and the deletions sent and acknowledged. Lives on the event loop.

    Parameters
    ----------
    corpora
        By name, those watched.
    """

    def __init__(self, corpora: dict[str, Corpus]) -> None:
        self.corpora = corpora
        self.acknowledged = {name: corpus.tombstones for name, corpus in corpora.items()}
        self._sent = dict.fromkeys(corpora, -1)
        self.broken = False
        self.woken = asyncio.Event()
        self.heard = asyncio.Event()
        """Set when it has acknowledged something, or is gone."""

    def acknowledge(self, name: str, tombstones: int) -> None:
        """Note that nothing deleted up to a version is used any more; what was never sent cannot be meant."""
        if name in self.acknowledged:
            self.acknowledged[name] = max(self.acknowledged[name], min(tombstones, self._sent[name]))
            self.heard.set()

    async def wait(self) -> None:
        """Return when there may be news.

        Raises
        ------
        Aborted
            WATCH_BROKEN: a deletion was not acknowledged in time.
        """
        if not self.broken:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.woken.wait(), POLL_SECONDS)
        self.woken.clear()
        if self.broken:
            raise Aborted(
                Reason.WATCH_BROKEN,
                "A deletion was not acknowledged in time. Quote nothing any more, and watch again.",
                retry_after=0.1,
            )

    def news(self) -> list[tuple[str, int, list[Gone], bool]]:
        """What has been deleted since the last time, by corpus; looks at files, so call it in a thread.

        Returns
        -------
        list
            Name, version of the last deletion, those that are known one by one, and whether anything may be gone.
        """
        found = []
        for name, corpus in self.corpora.items():
            sent = self._sent[name]
            latest = corpus.view().tombstones
            if latest <= sent:
                continue
            with corpus.lock:
                gone = list(corpus.gone)
            new = [g for g in gone if g.tombstones > sent] if sent >= 0 else []
            overflowed = len(gone) == corpus.gone.maxlen and gone[0].tombstones > sent
            everything = sent >= 0 and (overflowed or any(not g.document for g in new))
            found.append((name, latest, [g for g in new if g.document], everything))
            self._sent[name] = latest
        return found


class Watchers:
    """The watchers of one server. Lives on the event loop."""

    def __init__(self) -> None:
        self._live: set[Watcher] = set()

    def enter(self, watcher: Watcher) -> None:
        """From now on deletions wait for it."""
        self._live.add(watcher)

    def leave(self, watcher: Watcher) -> None:
        """It is gone, and quotes nothing."""
        self._live.discard(watcher)
        watcher.heard.set()

    async def end(self, corpus: Corpus) -> None:
        """Break the streams of all who watch a corpus: it is no more."""
        for watcher in self._of([corpus]):
            watcher.broken = True
            watcher.woken.set()
            self._live.discard(watcher)

    def _of(self, corpora: Iterable[Corpus]) -> list[Watcher]:
        wanted = set(map(id, corpora))
        return [w for w in self._live if wanted & set(map(id, w.corpora.values()))]

    async def settle(self, corpus: Corpus, tombstones: int, seconds: float) -> tuple[int, int]:
        """Wait until everyone who watches a corpus has acknowledged a deletion; break the streams of the others.

        Returns
        -------
        tuple
            How many have acknowledged, and how many streams were broken.
        """
        watchers = self._of([corpus])
        for watcher in watchers:
            watcher.woken.set()
        until = time.monotonic() + seconds

        def waiting() -> list[Watcher]:
            return [
                w
                for w in watchers
                if w in self._live
                and any(w.acknowledged[n] < tombstones for n, c in w.corpora.items() if c is corpus)
            ]

        for watcher in watchers:
            while watcher in waiting() and (left := until - time.monotonic()) > 0:
                watcher.heard.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(watcher.heard.wait(), left)
        late = waiting()
        for watcher in late:
            watcher.broken = True
            watcher.woken.set()
            self._live.discard(watcher)
        return len(watchers) - len(late), len(late)
