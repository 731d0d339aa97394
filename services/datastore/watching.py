"""The watchers of deletions: which deletions each has been sent, and which it has acknowledged."""

import asyncio
import contextlib
import time
from typing import NamedTuple

from palimpsest.errors import Aborted, Reason
from services.datastore.store.corpus import Corpus
from services.datastore.store.results import Deleted

POLL_SECONDS = 0.25
"""How often a watcher checks for deletions made by other processes."""


class DeletionNotice(NamedTuple):
    """Deletions in one corpus that a watcher has not been sent yet.

    Attributes
    ----------
    corpus
        Name of the corpus.
    tombstone_version
        Epoch of the last deletion.
    deleted
        The deleted versions that are known.
    everything
        Whether any document may have been deleted.
    """

    corpus: str
    tombstone_version: int
    deleted: list[Deleted]
    everything: bool


class Watcher:
    """One watch stream: its corpora, and the deletions sent and acknowledged. Used on the event loop.

    Parameters
    ----------
    corpora
        The watched corpora, by name.
    """

    def __init__(self, corpora: dict[str, Corpus]) -> None:
        self.corpora = corpora
        self.acknowledged = {name: corpus.tombstone_version for name, corpus in corpora.items()}
        self._sent = dict.fromkeys(corpora, -1)
        self.wake = asyncio.Event()
        """Set when there may be deletions to send, or the stream has ended."""
        self._ended = self._broken = False
        self._progressed = asyncio.Event()
        """Set when the watcher has acknowledged a deletion, or has ended."""

    def acknowledge(self, name: str, tombstone_version: int) -> None:
        """Record that nothing deleted up to a version is quoted any more; versions never sent do not count."""
        if name in self.acknowledged:
            known = min(tombstone_version, self._sent[name])
            self.acknowledged[name] = max(self.acknowledged[name], known)
            self._progressed.set()

    def end(self, *, broken: bool) -> None:
        """Wait for its acknowledgements no longer; the stream of a broken watcher ends with an error."""
        self._ended, self._broken = True, self._broken or broken
        self._progressed.set()
        self.wake.set()

    async def wait(self) -> None:
        """Return when there may be deletions to send.

        Raises
        ------
        Aborted
            WATCH_BROKEN: a deletion was not acknowledged in time, or a watched corpus was deleted.
        """
        if not self._broken:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.wake.wait(), POLL_SECONDS)
        self.wake.clear()
        if self._broken:
            raise Aborted(
                Reason.WATCH_BROKEN,
                "This watcher missed the acknowledgement deadline, or a watched corpus was deleted. Stop quoting and "
                "reopen WatchDeletions.",
                retry_after=0.1,
            )

    async def settle(self, corpus: Corpus, tombstone_version: int, deadline: float) -> bool:
        """Wait until a deletion is acknowledged or the stream has ended; False at the deadline (monotonic seconds)."""
        while not self._settled(corpus, tombstone_version):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._progressed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._progressed.wait(), left)
        return True

    def _settled(self, corpus: Corpus, tombstone_version: int) -> bool:
        names = [name for name, each in self.corpora.items() if each is corpus]
        return self._ended or all(self.acknowledged[name] >= tombstone_version for name in names)

    def new_deletions(self) -> list[DeletionNotice]:
        """The deletions since the last call, by corpus. Reads files, so call it in a thread."""
        notices = []
        for name, corpus in self.corpora.items():
            sent = self._sent[name]
            latest = corpus.view().tombstone_version
            if latest <= sent:
                continue
            if sent < 0:  # the first notice: earlier deletions are not listed
                notices.append(DeletionNotice(name, latest, [], everything=False))
            else:
                notices.append(self._notice(name, corpus, sent, latest))
            self._sent[name] = latest
        return notices

    @staticmethod
    def _notice(name: str, corpus: Corpus, sent: int, latest: int) -> DeletionNotice:
        recent, overflowed = corpus.recent_deletions()
        new = [each for each in recent if each.tombstone_version > sent]
        # Some are unknown if they were sealed before this process read them, or dropped because there were too many.
        everything = any(not each.document for each in new) or (overflowed and len(new) == len(recent))
        return DeletionNotice(name, latest, [each for each in new if each.document], everything)


class Watchers:
    """The watchers of one server. Used on the event loop."""

    def __init__(self) -> None:
        self._live: set[Watcher] = set()

    def add(self, watcher: Watcher) -> None:
        """Make deletions wait for a watcher from now on."""
        self._live.add(watcher)

    def remove(self, watcher: Watcher) -> None:
        """Stop waiting for a watcher whose stream has ended."""
        self._live.discard(watcher)
        watcher.end(broken=False)

    def close(self, corpus: Corpus) -> None:
        """Break the streams of all watchers of a corpus: it was deleted."""
        for watcher in self._of(corpus):
            self._break(watcher)

    async def settle(self, corpus: Corpus, tombstone_version: int, seconds: float) -> tuple[int, int]:
        """Wait until every watcher of a corpus has acknowledged a deletion; break the streams of those that do not.

        Returns
        -------
        tuple
            Number of watchers that acknowledged (or left), and number of streams broken.
        """
        watchers = self._of(corpus)
        for watcher in watchers:
            watcher.wake.set()
        deadline = time.monotonic() + seconds
        late = [w for w in watchers if not await w.settle(corpus, tombstone_version, deadline)]
        for watcher in late:
            self._break(watcher)
        return len(watchers) - len(late), len(late)

    def _of(self, corpus: Corpus) -> list[Watcher]:
        return [w for w in self._live if any(each is corpus for each in w.corpora.values())]

    def _break(self, watcher: Watcher) -> None:
        self._live.discard(watcher)
        watcher.end(broken=True)
