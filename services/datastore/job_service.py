"""The part of DatastoreService that queues work on a corpus: sealing, keys, calibration, compaction, purging."""

import asyncio
from typing import Any

import grpc
from google.longrunning import operations_pb2

from palimpsest.api.datastore.v1 import datastore_pb2 as pb
from palimpsest.api.datastore.v1 import datastore_pb2_grpc
from palimpsest.rpc import call
from palimpsest.rpc.resources import Resources
from services.datastore.corpora import Corpora
from services.datastore.store.catalogue import Opened

_WARM, _CALIBRATE = "datastore.warm_keys", "datastore.calibrate"
_BY_MODEL = (_WARM, _CALIBRATE)
"""Jobs that run the corpus's model."""


class JobCalls(datastore_pb2_grpc.DatastoreServiceServicer):
    """Calls that queue a job; the servicer has them with ``_corpora`` and ``_resources``."""

    _resources: Resources
    _corpora: Corpora

    async def BuildIndex(
        self, request: pb.BuildIndexRequest, context: grpc.aio.ServicerContext
    ) -> operations_pb2.Operation:
        """Queue the sealing of what was added."""
        return await self._submit("datastore.build_index", await self._open(request.corpus), request)

    async def WarmKeys(
        self, request: pb.WarmKeysRequest, context: grpc.aio.ServicerContext
    ) -> operations_pb2.Operation:
        """Queue the computation of keys."""
        opened = await self._open(request.corpus)
        await asyncio.to_thread(self._corpora.tokenizer, opened.corpus.spec)
        return await self._submit(_WARM, opened, request)

    async def Calibrate(
        self, request: pb.CalibrateRequest, context: grpc.aio.ServicerContext
    ) -> operations_pb2.Operation:
        """Queue a calibration."""
        opened = await self._open(request.corpus)
        await asyncio.to_thread(self._corpora.tokenizer, opened.corpus.spec)
        return await self._submit(_CALIBRATE, opened, request)

    async def Compact(
        self, request: pb.CompactRequest, context: grpc.aio.ServicerContext
    ) -> operations_pb2.Operation:
        """Queue a compaction."""
        return await self._submit("datastore.compact", await self._open(request.corpus), request)

    async def Purge(
        self, request: pb.PurgeRequest, context: grpc.aio.ServicerContext
    ) -> operations_pb2.Operation:
        """Queue a purge."""
        return await self._submit("datastore.purge", await self._open(request.corpus), request)

    async def _submit(self, kind: str, opened: Opened, request: Any) -> operations_pb2.Operation:
        """Queue a job; one for the same state of the same corpus is the same job."""
        view = await asyncio.to_thread(opened.corpus.view)
        action = {"tenant": call().principal, "created": opened.corpus.spec.created, "epoch": view.epoch}
        return await self._resources.submit(
            kind,
            request,
            needs="model" if kind in _BY_MODEL else "cpu",
            # Keys are written and dropped without a new epoch.
            action=None if kind == _WARM else action,
        )

    async def _open(self, name: str) -> Opened:
        """The caller's corpus of a name."""
        return await asyncio.to_thread(self._corpora.open, call().principal, name)
