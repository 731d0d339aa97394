"""The part of DatastoreService that builds, lists, deletes and inspects n-gram stores."""

import asyncio

import grpc
from google.longrunning import operations_pb2

from palimpsest.api.datastore.v1 import datastore_pb2 as pb
from palimpsest.api.datastore.v1 import datastore_pb2_grpc
from palimpsest.rpc import call
from palimpsest.rpc.resources import Resources
from services.datastore.ngrams.spec import spec_of
from services.datastore.ngrams.stores import NgramStores


class NgramCalls(datastore_pb2_grpc.DatastoreServiceServicer):
    """Calls on n-gram stores; ``DatastoreServicer`` sets the attributes."""

    _resources: Resources
    _ngrams: NgramStores

    async def BuildNgramStore(
        self, request: pb.BuildNgramStoreRequest, context: grpc.aio.ServicerContext
    ) -> operations_pb2.Operation:
        """Queue the counting of a text's n-grams."""
        inputs = [request.text_artifact] if request.text_artifact else []
        for digest in inputs:  # before anything is said about it
            await asyncio.to_thread(self._resources.callers_artifacts().stat, digest)
        await asyncio.to_thread(self._ngrams.check, call().principal, spec_of(request))
        # Without an action: a store that a job made may have been deleted since, so the handler checks itself.
        return await self._resources.submit("datastore.build_ngram_store", request, inputs=inputs)

    async def GetNgramStore(
        self, request: pb.GetNgramStoreRequest, context: grpc.aio.ServicerContext
    ) -> pb.NgramStore:
        """Look up one store."""
        return await asyncio.to_thread(self._ngrams.catalogue.get, call().principal, request.name)

    async def ListNgramStores(
        self, request: pb.ListNgramStoresRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListNgramStoresResponse:
        """List the caller's stores."""
        found, token = await asyncio.to_thread(
            self._ngrams.catalogue.list, call().principal, request.page_size, request.page_token
        )
        return pb.ListNgramStoresResponse(ngram_stores=found, next_page_token=token)

    async def DeleteNgramStore(
        self, request: pb.DeleteNgramStoreRequest, context: grpc.aio.ServicerContext
    ) -> pb.DeleteNgramStoreResponse:
        """Delete a store."""
        await asyncio.to_thread(self._ngrams.catalogue.delete, call().principal, request.name)
        return pb.DeleteNgramStoreResponse()

    async def InspectNgrams(
        self, request: pb.InspectNgramsRequest, context: grpc.aio.ServicerContext
    ) -> pb.InspectNgramsResponse:
        """Report what a store knows about a text."""
        ids = list(request.tokens.ids) if request.WhichOneof("context") == "tokens" else None
        return await asyncio.to_thread(
            self._ngrams.inspect, call().principal, request.name, request.text, ids, request.limit
        )
