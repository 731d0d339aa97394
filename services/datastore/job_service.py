"""The part of DatastoreService that queues jobs on a corpus: sealing, keys, calibration, compaction, purging."""

import asyncio
from typing import Any

import grpc
from google.longrunning import operations_pb2

from palimpsest.api.datastore.v1 import datastore_pb2 as pb
from palimpsest.rpc import call
from services.datastore.base_service import CorpusCalls
from services.datastore.store.catalogue import OpenCorpus

_WARM, _CALIBRATE = "datastore.warm_keys", "datastore.calibrate"
_BY_MODEL = (_WARM, _CALIBRATE)
"""Jobs that run the corpus's model."""


class JobCalls(CorpusCalls):
    """Calls that queue a job."""

    async def BuildIndex(
        self, request: pb.BuildIndexRequest, context: grpc.aio.ServicerContext
    ) -> operations_pb2.Operation:
        """Queue the sealing of added documents."""
        return await self._submit("datastore.build_index", await self._open(request.corpus), request)

    async def WarmKeys(
        self, request: pb.WarmKeysRequest, context: grpc.aio.ServicerContext
    ) -> operations_pb2.Operation:
        """Queue the computation of missing keys."""
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

    async def _submit(self, kind: str, opened: OpenCorpus, request: Any) -> operations_pb2.Operation:
        """Queue a job; requests for the same state of the same corpus share one job."""
        view = await asyncio.to_thread(opened.corpus.view)
        action = {"tenant": call().principal, "created": opened.corpus.spec.created, "epoch": view.epoch}
        return await self._resources.submit(
            kind,
            request,
            needs="model" if kind in _BY_MODEL else "cpu",
            # Keys are written and dropped without a new epoch.
            action=None if kind == _WARM else action,
        )
