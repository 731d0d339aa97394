"""The artefacts of a store as one principal sees them.

To a principal an artefact exists if the principal holds it: it has sent all its bytes, or it was given the digest by
its jobs, contexts or n-gram stores. Everything else answers as a digest that was never stored does, in the same words
and after the same look-up, so that a guessed digest does not even tell whether somebody has these bytes.

Two things widen the view. The scope ``admin.artifacts`` sees everything. And with
``PALIMPSEST_ARTIFACT_DIGEST_IS_CAPABILITY`` whoever names a digest may read it: callers hand artefacts to each other by
digest, and only lists stay apart.
"""

from collections.abc import Generator, Sequence
from contextlib import suppress

from palimpsest.artifacts.digests import hex_of
from palimpsest.artifacts.info import ArtifactInfo
from palimpsest.artifacts.pages import page_of
from palimpsest.artifacts.reading import not_found
from palimpsest.artifacts.references import in_use
from palimpsest.artifacts.store import ArtifactStore
from palimpsest.artifacts.upload_catalogue import WriteStatus
from palimpsest.artifacts.upload_session import UploadSession, UploadSpec
from palimpsest.errors import FailedPrecondition


class ArtifactView:
    """What a principal may know of a store. Methods block, and may be called from any thread.

    Parameters
    ----------
    store
        All artefacts.
    principal
        Who looks.
    everything
        The principal has the scope ``admin.artifacts``.
    """

    def __init__(self, store: ArtifactStore, principal: str, everything: bool = False) -> None:
        self._store, self._principal, self._everything = store, principal, everything
        self._references, self._holders = store.references, store.references.holders

    def sees(self, digest: str) -> bool:
        """Return whether the principal may read an artefact, if it is there.

        Raises
        ------
        InvalidArgument
            DIGEST_INVALID.
        """
        hex_of(digest)
        return self._among([digest])[0]

    def stat(self, digest: str) -> ArtifactInfo:
        """Look up an artefact; raises the errors of ``ArtifactStore.stat``."""
        self._require(digest)
        return self._seen(self._store.stat(digest))

    def owners(self, digest: str) -> list[str]:
        """Return the owners of references to an artefact that are the principal's own, sorted."""
        return self._references.owners(digest, None if self._everything else self._principal)

    def chunks(self, digest: str, offset: int = 0, limit: int = 0) -> Generator[bytes]:
        """Read an artefact as ``ArtifactStore.chunks`` does; raises its errors."""
        self._require(digest)
        return self._store.chunks(digest, offset, limit)

    def missing(self, digests: Sequence[str]) -> list[str]:
        """Return the digests that do not exist to the principal, in the order given."""
        seen = [digest for digest, sees in zip(digests, self._among(digests), strict=True) if sees]
        there = set(seen) - set(self._store.missing(seen))
        return [digest for digest in digests if digest not in there]

    def list(self, page_size: int = 0, page_token: str = "") -> tuple[list[ArtifactInfo], str]:
        """List as ``ArtifactStore.list`` does what the principal holds itself; raises its errors."""
        if self._everything:
            infos, token = self._store.list(page_size, page_token)
            return [self._seen(info) for info in infos], token
        held = self._holders.of(self._principal)
        times = ((each.ms, digest) for digest, each in held.items())
        digests, token = page_of(times, page_size, page_token)
        found = [(held[digest], self._store.find(digest)) for digest in digests]
        return [each.seen(info) for each, info in found if info is not None], token

    def delete(self, digest: str) -> None:
        """Give an artefact up. Its bytes go with its last holder, unless something refers to them.

        Raises
        ------
        NotFound
            ARTIFACT_NOT_FOUND: the principal does not hold it.
        FailedPrecondition
            ARTIFACT_IN_USE: something of the principal's own refers to it; metadata names it.
        """
        if self._everything:
            self._store.delete(digest)
            return
        hex_of(digest)
        if self._holders.find(self._principal, digest) is None:
            raise not_found(digest)
        if own := self.owners(digest):
            raise in_use(digest, own)
        self._holders.take(self._principal, digest)
        with suppress(
            FailedPrecondition
        ):  # somebody else's reference, which is not the principal's to know of
            self._store.delete_unheld(digest)

    def open_upload(self, upload_id: str, spec: UploadSpec) -> UploadSession:
        """Start or resume an upload; raises the errors of ``UploadCatalogue.open``."""
        return self._store.uploads.open(upload_id, spec, self._principal, self.sees)

    def upload_status(self, upload_id: str) -> WriteStatus:
        """Look up the progress of an upload; raises the errors of ``UploadCatalogue.status``."""
        return self._store.uploads.status(upload_id, self._principal, self._find)

    def _find(self, digest: str) -> ArtifactInfo | None:
        info = self._store.find(digest) if self.sees(digest) else None
        return self._seen(info) if info is not None else None

    def _seen(self, info: ArtifactInfo) -> ArtifactInfo:
        """The artefact with the principal's own time and media type."""
        held = self._holders.find(self._principal, info.digest)
        return held.seen(info) if held is not None else info

    def _require(self, digest: str) -> None:
        if not self.sees(digest):
            raise not_found(digest)

    def _among(self, digests: Sequence[str]) -> "list[bool]":
        if self._everything or self._store.digest_is_capability:
            return [True] * len(digests)
        return self._holders.among(self._principal, digests)
