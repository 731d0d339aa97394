"""Removal from the stores beside the weights, over the other rooms' own calls and as the caller.

Each store is asked before, told to delete, and asked again: it counts as absent only if nothing of what was named is
found, by name or as bytes. Files of a corpus are searched for the deleted text by the purge itself.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.errors import DeadlineExceeded, FailedPrecondition, NotFound, PalimpsestError, Reason
from palimpsest.progress import Postponed, Progress

if TYPE_CHECKING:
    from palimpsest.client import Client

_AGAIN = 5.0
"""Seconds for which the worker's place is left to a purge that needs longer than the patience for it."""
_LOOK = 2.0


@dataclass(frozen=True)
class StorePurger:
    """Purges what a plan names; what is done already is not done again.

    Attributes
    ----------
    client
        Calls the other rooms as the request's principal.
    progress
        Told of each store.
    kept
        Returns what an earlier attempt knows of a store, as JSON-able data; None: nothing.
    keep
        Keeps that for a later one; None forgets it.
    patience
        Seconds to wait for a purge before the worker's place is given up.
    """

    client: "Client"
    progress: Progress
    kept: Callable[[str], dict[str, Any] | None]
    keep: Callable[[str, dict[str, Any] | None], None]
    patience: float

    def purge(self, plan: pb.RemovalPlan) -> list[pb.StoreEvidence]:
        """Purge every store; returns the evidence of each, in the plan's order.

        Raises
        ------
        Postponed
            A purge job has not ended, and may be waiting for this worker: come again.
        FailedPrecondition
            STORE_NOT_EMPTY: a store still has what was deleted.
        PalimpsestError
            Errors of the rooms.
        """
        work = [(each.corpus, self._corpus, each) for each in plan.corpora]
        work += [(name, self._ngrams, name) for name in plan.ngram_stores]
        work += [(name, self._context, name) for name in plan.contexts]
        found = []
        for number, (name, purge, what) in enumerate(work):
            self.progress.step(number, len(work), "purging stores")
            evidence = self._once(name, purge, what)
            if not evidence.absent:
                message = (
                    f"{name} still has what was to be deleted, or something else of the caller's refers to it. Look at "
                    "what uses it, delete that, and retry the job."
                )
                raise FailedPrecondition(Reason.STORE_NOT_EMPTY, message, metadata={"store": name})
            found.append(evidence)
        return found

    def _once(self, name: str, purge: Callable[[Any], pb.StoreEvidence], what: Any) -> pb.StoreEvidence:
        done = (self.kept(name) or {}).get("evidence")
        if done is not None:
            if not self._holds(name, what):
                return pb.StoreEvidence(**done)
            self.keep(name, None)  # put there again since an attempt before, which may be long ago
        evidence = purge(what)
        if evidence.absent:
            facts = {field.name: value for field, value in evidence.ListFields()}
            self.keep(name, {**(self.kept(name) or {}), "evidence": facts})
        return evidence

    def _corpus(self, what: pb.CorpusPurge) -> pb.StoreEvidence:
        corpus, ids = what.corpus, list(what.documents)
        state: dict[str, Any] | None = self.kept(corpus)
        if state is None:
            receipt = self.client.datastore.delete_documents(corpus=corpus, documents=ids)
            state = {"deleted": len(receipt.deleted), "missing": len(receipt.missing)}
            self.keep(corpus, state)
        if "job" not in state:
            state["job"] = self.client.datastore.purge(corpus=corpus).name
            self.keep(corpus, state)
        try:
            proof = self._ended(state["job"])
        except PalimpsestError:
            self.keep(corpus, {name: value for name, value in state.items() if name != "job"})
            raise  # a later attempt purges again
        left = self._left(corpus, ids)
        return pb.StoreEvidence(
            name=corpus,
            deleted=state["deleted"],
            missing=state["missing"],
            shingles=proof.shingles,
            scanned_bytes=proof.scanned_bytes,
            absent=left == 0,
        )

    def _left(self, corpus: str, documents: Sequence[str]) -> int:
        """How many documents a corpus has."""
        left = 0
        for name in documents:
            self.progress.check()
            with contextlib.suppress(NotFound):
                self.client.datastore.stat_document(corpus=corpus, document=name)
                left += 1
        return left

    def _holds(self, name: str, what: Any) -> bool:
        """Whether a store has anything of what was named."""
        if isinstance(what, pb.CorpusPurge):
            return self._left(name, what.documents) > 0
        try:
            if name.startswith("contexts/"):
                self.client.codec.get_context(name=name)
            else:
                self.client.datastore.get_ngram_store(name=name)
        except NotFound:
            return False
        return True

    def _ngrams(self, name: str) -> pb.StoreEvidence:
        return self._whole(
            name,
            lambda: [self.client.datastore.get_ngram_store(name=name).artifact],
            lambda: self.client.datastore.delete_ngram_store(name=name),
        )

    def _context(self, name: str) -> pb.StoreEvidence:
        return self._whole(
            name, lambda: self._parts_of(name), lambda: self.client.codec.delete_context(name=name)
        )

    def _parts_of(self, name: str) -> list[str]:
        """Artefacts of a context: its tokens, and every chunk at every level."""
        found: list[str] = []
        first, count = 0, 1
        while first < count:
            part = self.client.codec.get_context(name=name, first_chunk=first)
            if not first:
                found.append(part.tokens_artifact)
            found += [encoding.artifact for chunk in part.chunks for encoding in chunk.encodings]
            count = part.chunk_count if part.chunks else 0
            first += len(part.chunks)
        return list(dict.fromkeys(found))

    def _whole(
        self, name: str, artifacts: Callable[[], Sequence[str]], delete: Callable[[], object]
    ) -> pb.StoreEvidence:
        """Delete something that consists of artefacts, and then these."""
        state = self.kept(name)
        if state is None:
            try:
                state = {"artifacts": list(artifacts()), "missing": 0}
            except NotFound:
                state = {"artifacts": [], "missing": 1}
            self.keep(name, state)
        with contextlib.suppress(NotFound):
            delete()
        left = sum(not self._gone(digest) for digest in state["artifacts"])
        try:
            artifacts()
            there = True
        except NotFound:
            there = False
        deleted = 1 - state["missing"]
        return pb.StoreEvidence(
            name=name, deleted=deleted, missing=state["missing"], absent=not there and not left
        )

    def _gone(self, digest: str) -> bool:
        """Delete an artefact of the caller's; the finished jobs that made it, which hold its text too, go with it."""
        for _ in range(2):
            try:
                self.client.artifacts.delete_artifact(digest=digest)
            except NotFound:
                return True
            except FailedPrecondition as error:
                jobs = [
                    each for each in error.metadata.get("owners", "").split(", ") if each.startswith("job/")
                ]
                for job in jobs:
                    with contextlib.suppress(PalimpsestError):
                        self.client.jobs.delete(f"operations/{job.removeprefix('job/')}")
        return digest in self.client.artifacts.find_missing(digests=[digest]).missing

    def _ended(self, name: str) -> Any:
        """Wait for a purge job, a little at a time, so that a cancellation is heard."""
        job, deadline = self.client.job(name), time.monotonic() + self.patience
        while True:
            self.progress.check()
            try:
                return job.result(timeout=_LOOK)
            except DeadlineExceeded as error:
                if error.reason != Reason.DEADLINE_EXCEEDED:
                    raise  # the purge's own limit
            if time.monotonic() > deadline:
                raise Postponed(_AGAIN)
