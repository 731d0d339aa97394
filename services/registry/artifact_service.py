"""ArtifactService: upload and download in chunks of at most 1 MiB, off the event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, suppress
from functools import partial
from typing import TypeVar

import grpc
from google.longrunning import operations_pb2

from palimpsest.api.artifacts.v1 import artifacts_pb2, artifacts_pb2_grpc
from palimpsest.artifacts import ArtifactInfo, ArtifactView, UploadSession, UploadSpec
from palimpsest.errors import InvalidArgument, Reason
from palimpsest.rpc.resources import Resources
from palimpsest.telemetry.metrics import ARTIFACT_BYTES

T = TypeVar("T")
MOST_OWNERS = 1000
"""Owners of references named in one answer."""

_READ_BACK = 8 << 20
"""Bytes of an earlier stream that are hashed at once when an upload goes on."""


class ArtifactServicer(artifacts_pb2_grpc.ArtifactServiceServicer):
    """The contract's ArtifactService over the store."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    async def WriteArtifact(
        self,
        request_iterator: AsyncIterator[artifacts_pb2.WriteArtifactRequest],
        context: grpc.aio.ServicerContext,
    ) -> artifacts_pb2.Artifact:
        """Receive one upload, or its next part. However the stream ends, received bytes are kept."""
        first = await anext(request_iterator, None)
        part = first.WhichOneof("part") if first is not None else None
        if first is None or part != "open":
            raise _out_of_order(f"The first message of an upload must be open; got {part or 'nothing'}.")
        spec = UploadSpec(first.open.digest, first.open.size_bytes, first.open.media_type)
        session = ExitStack()
        try:
            open_upload = partial(self._view().open_upload, first.open.upload_id, spec)
            upload = await _in_thread(lambda: session.enter_context(open_upload()))
            while not await _in_thread(upload.read_back, _READ_BACK):
                pass  # other calls get their turn of the threads
            artifact = upload.artifact or await self._receive(upload, request_iterator)
            return artifact.message()
        finally:
            await _in_thread(session.close)

    async def _receive(
        self, upload: UploadSession, messages: AsyncIterator[artifacts_pb2.WriteArtifactRequest]
    ) -> ArtifactInfo:
        async for message in messages:
            match message.WhichOneof("part"):
                case "chunk":
                    chunk = message.chunk
                    crc32 = chunk.crc32 if chunk.HasField("crc32") else None
                    await _in_thread(upload.write, chunk.offset, chunk.data, crc32)
                    ARTIFACT_BYTES.labels("in").inc(len(chunk.data))
                case "finish" if message.finish:
                    return await _in_thread(upload.finish)
                case part:
                    found = part or "an empty message"
                    raise _out_of_order(f"Got {found} after open. Send open, then chunks, then finish: true.")
        raise _out_of_order(
            f"The stream ended without finish. Resume from offset {upload.size_bytes}, then send finish."
        )

    async def QueryWriteStatus(
        self, request: artifacts_pb2.QueryWriteStatusRequest, context: grpc.aio.ServicerContext
    ) -> artifacts_pb2.QueryWriteStatusResponse:
        """Return how many bytes of an upload are stored."""
        status = await asyncio.to_thread(self._view().upload_status, request.upload_id)
        return artifacts_pb2.QueryWriteStatusResponse(
            committed_size=status.committed_size,
            complete=status.artifact is not None,
            artifact=status.artifact.message() if status.artifact else None,
        )

    async def ReadArtifact(
        self, request: artifacts_pb2.ReadArtifactRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[artifacts_pb2.ReadArtifactResponse]:
        """Stream an artefact; the next chunk is read only once the last has been sent."""
        chunks = await asyncio.to_thread(self._view().chunks, request.digest, request.offset, request.limit)
        next_chunk: Callable[[], bytes] = partial(next, chunks, b"")
        offset = request.offset
        try:
            while data := await _in_thread(next_chunk):
                yield artifacts_pb2.ReadArtifactResponse(offset=offset, data=data)
                offset += len(data)
                ARTIFACT_BYTES.labels("out").inc(len(data))
        finally:
            await _in_thread(chunks.close)

    async def GetArtifact(
        self, request: artifacts_pb2.GetArtifactRequest, context: grpc.aio.ServicerContext
    ) -> artifacts_pb2.Artifact:
        """Look one artefact up, with the caller's references to it."""
        view = self._view()
        info = await asyncio.to_thread(view.stat, request.digest)
        owners = await asyncio.to_thread(view.owners, request.digest)
        return info.message(owners[:MOST_OWNERS])

    async def ListArtifacts(
        self, request: artifacts_pb2.ListArtifactsRequest, context: grpc.aio.ServicerContext
    ) -> artifacts_pb2.ListArtifactsResponse:
        """List the caller's artefacts, newest first."""
        infos, token = await asyncio.to_thread(self._view().list, request.page_size, request.page_token)
        messages = [info.message() for info in infos]
        return artifacts_pb2.ListArtifactsResponse(artifacts=messages, next_page_token=token)

    async def FindMissing(
        self, request: artifacts_pb2.FindMissingRequest, context: grpc.aio.ServicerContext
    ) -> artifacts_pb2.FindMissingResponse:
        """Return the digests that the caller has to upload."""
        missing = await asyncio.to_thread(self._view().missing, list(request.digests))
        return artifacts_pb2.FindMissingResponse(missing=missing)

    async def DeleteArtifact(
        self, request: artifacts_pb2.DeleteArtifactRequest, context: grpc.aio.ServicerContext
    ) -> artifacts_pb2.DeleteArtifactResponse:
        """Give an artefact up; delete it if nobody else holds it and nothing refers to it."""
        await asyncio.to_thread(self._view().delete, request.digest)
        return artifacts_pb2.DeleteArtifactResponse()

    async def CollectGarbage(
        self, request: artifacts_pb2.CollectGarbageRequest, context: grpc.aio.ServicerContext
    ) -> operations_pb2.Operation:
        """Queue a collection."""
        return await self._resources.submit("artifacts.collect_garbage", request)

    def _view(self) -> ArtifactView:
        return self._resources.callers_artifacts()


async def _in_thread(function: Callable[..., T], *args: object) -> T:
    """Run blocking work in a thread; a cancelled call ends only when the thread has closed its files."""
    work = asyncio.ensure_future(asyncio.to_thread(function, *args))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # nobody is left to be told; asyncio would log it as lost
        raise


def _out_of_order(message: str) -> InvalidArgument:
    return InvalidArgument(Reason.UPLOAD_ORDER, message)
