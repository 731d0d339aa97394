"""Artefacts as files: uploads and downloads that survive broken streams and check every byte."""

# Made from client/aio/artifacts.py by deploy/client.py; edit that.

import hashlib
import io
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from typing import BinaryIO

from palimpsest.api.artifacts.v1 import artifacts_pb2
from palimpsest.client.blocking.concurrency import off_loop, pause
from palimpsest.client.blocking.rooms import ArtifactsRoom
from palimpsest.client.patience import Patience
from palimpsest.client.transfer import Chunks, Destination, Progress, Source, opened, replacing
from palimpsest.errors import DataLoss, NotFound, OutOfRange, PalimpsestError, Reason


class Artifacts(ArtifactsRoom):
    """The artefact store: every RPC, and whole files in and out."""

    def upload(
        self, source: Source, *, media_type: str = "", progress: Progress | None = None
    ) -> artifacts_pb2.Artifact:
        """Upload bytes, a file by its path, or an open binary file from where it stands.

        What the store already holds is not sent again. A broken stream is resumed from the last byte the
        server has; a pipe is first copied to a temporary file.

        Parameters
        ----------
        source
            Bytes, a path or a binary file.
        media_type
            Such as ``"application/jsonl"``.
        progress
            Called with bytes stored and bytes in all.

        Raises
        ------
        ResourceExhausted
            The store is full or the artefact larger than the server accepts.
        DataLoss
            The file changed while it was read, or bytes keep arriving damaged.
        Unavailable
            The server stayed away for a minute.
        """
        with ExitStack() as stack:
            file = off_loop(stack.enter_context, opened(source))
            chunks = off_loop(Chunks, file)
            return _Upload(self, chunks, media_type, progress).run()

    def download(
        self, digest: str, destination: Destination, *, progress: Progress | None = None
    ) -> artifacts_pb2.Artifact:
        """Download an artefact to a path, which appears whole or not at all, or into an open binary file.

        A broken stream is resumed where it broke, and the digest is checked here as well as by the server.

        Parameters
        ----------
        digest, destination
            What, and the path or open file it goes to.
        progress
            Called with bytes received and bytes in all.

        Raises
        ------
        NotFound
            No such artefact.
        DataLoss
            The bytes do not have the digest; an open file may have received some of them.
        Unavailable
            The server stayed away for a minute.
        """
        artifact = self.get_artifact(digest=digest)
        with replacing(destination) as file:
            self._receive(artifact, file, progress)
        return artifact

    def read_bytes(self, digest: str) -> bytes:
        """Return a whole artefact, checked; for those that fit in memory."""
        buffer = io.BytesIO()
        self.download(digest, buffer)
        return buffer.getvalue()

    def _receive(self, artifact: artifacts_pb2.Artifact, file: BinaryIO, progress: Progress | None) -> None:
        sha256, offset, patience = hashlib.sha256(), 0, Patience()
        while offset < artifact.size_bytes:
            try:
                with self.read_artifact(digest=artifact.digest, offset=offset) as stream:
                    for part in stream:
                        if part.offset != offset:
                            raise _damaged(artifact.digest, f"byte {part.offset} came where {offset} was due")
                        off_loop(file.write, part.data)
                        sha256.update(part.data)
                        offset += len(part.data)
                        patience.progressed()
                        if progress is not None:
                            progress(offset, artifact.size_bytes)
                if offset < artifact.size_bytes:
                    raise _damaged(artifact.digest, f"it ended after {offset} of {artifact.size_bytes} bytes")
            except PalimpsestError as error:
                pause(patience.pause(error))
        if f"sha256:{sha256.hexdigest()}" != artifact.digest:
            raise _damaged(artifact.digest, "the bytes received do not have the digest")


class _Upload:
    """One upload, through as many streams as it takes."""

    def __init__(
        self, artifacts: ArtifactsRoom, chunks: Chunks, media_type: str, progress: Progress | None
    ) -> None:
        self.artifacts = artifacts
        self.chunks = chunks
        self.progress = progress
        self.opening = artifacts_pb2.WriteArtifactRequest.Open(
            upload_id=uuid.uuid4().hex,
            digest=chunks.digest,
            size_bytes=chunks.size,
            media_type=media_type,
        )
        self.committed = 0
        self.failure: BaseException | None = None

    def run(self) -> artifacts_pb2.Artifact:
        """Send what the store lacks until it holds everything."""
        missing = self.artifacts.find_missing(digests=[self.opening.digest])
        if not missing.missing:
            try:
                return self._finished(self.artifacts.get_artifact(digest=self.opening.digest))
            except NotFound:
                pass  # deleted between the two calls
        patience, restarts = Patience(), 0
        while True:
            try:
                return self._finished(self.artifacts.write_artifact(self._parts()))
            except DataLoss:
                restarts += 1
                if restarts > 2:
                    raise
                # The contract's answer to damage: nothing of this upload can be used, start again.
                self.opening.upload_id = uuid.uuid4().hex
                self.committed = 0
            except OutOfRange as error:
                # Only a server that lost bytes it had reported gets here; its own account is the truth.
                patience.progressed()
                restarts += 1
                if restarts > 8:
                    raise
                self._ask(patience, error)
            except PalimpsestError as error:
                if self.failure is not None:
                    raise self.failure from None
                self._ask(patience, error)

    def _ask(self, patience: Patience, error: PalimpsestError) -> None:
        """Wait a little and learn how far the upload has come."""
        if not isinstance(error, OutOfRange):
            pause(patience.pause(error))
        try:
            status = self.artifacts.query_write_status(upload_id=self.opening.upload_id)
        except NotFound:
            self.committed = 0
        except PalimpsestError as again:
            pause(patience.pause(again))
        else:
            if status.committed_size > self.committed:
                patience.progressed()
            self.committed = self.chunks.size if status.complete else status.committed_size
        self._report(self.committed)

    def _parts(self) -> Iterator[artifacts_pb2.WriteArtifactRequest]:
        yield artifacts_pb2.WriteArtifactRequest(open=self.opening)
        offset = self.committed
        while True:
            try:
                part = off_loop(self.chunks.at, offset)
            except Exception as error:  # raised here it would only surface as a cancelled call
                self.failure = error
                return
            if part is None:
                break
            yield part
            offset += len(part.chunk.data)
            self._report(offset)
        yield artifacts_pb2.WriteArtifactRequest(finish=True)

    def _report(self, done: int) -> None:
        if self.progress is not None:
            self.progress(done, self.chunks.size)

    def _finished(self, artifact: artifacts_pb2.Artifact) -> artifacts_pb2.Artifact:
        self._report(self.chunks.size)
        return artifact


def _damaged(digest: str, how: str) -> DataLoss:
    return DataLoss(
        Reason.ARTIFACT_CORRUPT,
        f"Reading {digest} failed: {how}. Download it again.",
        metadata={"digest": digest},
    )
