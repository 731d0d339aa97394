"""ModelService: register, look up, compare, train and forget models."""

import asyncio

import grpc
from google.longrunning import operations_pb2

from palimpsest.api.models.v1 import models_pb2, models_pb2_grpc
from palimpsest.errors import InvalidArgument, Reason
from palimpsest.models import check_source, unregister
from palimpsest.paging import fitting
from palimpsest.progress import NullProgress
from palimpsest.rpc.resources import Resources
from services.registry.convert import plan_of


class ModelServicer(models_pb2_grpc.ModelServiceServicer):
    """The contract's ModelService over the catalogue."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._models = resources.models

    async def RegisterModel(
        self, request: models_pb2.RegisterModelRequest, context: grpc.aio.ServicerContext
    ) -> operations_pb2.Operation:
        """Queue a registration, if the source is one this server may read."""
        check_source(request.source, self._resources.settings)
        if request.relation not in models_pb2.Relation.values():
            message = f"There is no relation {request.relation}; see the enum Relation."
            raise InvalidArgument.field(Reason.INVALID_REQUEST, "relation", message)
        if request.parent:
            await asyncio.to_thread(self._models.get, request.parent)
        return await self._resources.submit("models.register", request)

    async def GetModel(
        self, request: models_pb2.GetModelRequest, context: grpc.aio.ServicerContext
    ) -> models_pb2.Model:
        """Look one model up."""
        return (await asyncio.to_thread(self._models.get, request.model_id)).message()

    async def ListModels(
        self, request: models_pb2.ListModelsRequest, context: grpc.aio.ServicerContext
    ) -> models_pb2.ListModelsResponse:
        """List models, oldest first."""
        records, token = await asyncio.to_thread(self._models.list, request.page_size, request.page_token)
        return models_pb2.ListModelsResponse(models=[r.message() for r in records], next_page_token=token)

    async def DeleteModel(
        self, request: models_pb2.DeleteModelRequest, context: grpc.aio.ServicerContext
    ) -> models_pb2.DeleteModelResponse:
        """Forget a model, and the weights if this installation made that copy."""
        settings = self._resources.settings
        await asyncio.to_thread(unregister, request.model_id, self._models, settings, NullProgress())
        return models_pb2.DeleteModelResponse()

    async def GetLineage(
        self, request: models_pb2.GetLineageRequest, context: grpc.aio.ServicerContext
    ) -> models_pb2.GetLineageResponse:
        """Parents up to the root, and direct children."""
        lineage = await asyncio.to_thread(self._models.lineage, request.model_id)
        ancestors = [record.message() for record in lineage.ancestors]
        children = [record.message() for record in lineage.children]
        fit = fitting(model.ByteSize() for model in [*ancestors, *children])
        return models_pb2.GetLineageResponse(
            ancestors=ancestors[:fit],
            children=children[: max(0, fit - len(ancestors))],
            omitted=len(ancestors) + len(children) - fit,
        )

    async def CheckPair(
        self, request: models_pb2.CheckPairRequest, context: grpc.aio.ServicerContext
    ) -> operations_pb2.Operation:
        """Queue a comparison; the same pair of contents is compared once."""
        base = await asyncio.to_thread(self._models.get, request.base)
        donor = await asyncio.to_thread(self._models.get, request.donor)
        action = {"method": "models.check_pair/1", "base": base.fingerprint, "donor": donor.fingerprint}
        return await self._resources.submit(
            "models.check_pair", request, action=action, ignore=("base", "donor")
        )

    async def FineTune(
        self, request: models_pb2.FineTuneRequest, context: grpc.aio.ServicerContext
    ) -> operations_pb2.Operation:
        """Queue a training; it always runs, as the model an earlier one made may have been deleted since."""
        base = await asyncio.to_thread(self._models.get, request.base)
        plan_of(request, base)  # refuses what it cannot be made of
        inputs = [request.train, *filter(None, [request.validation])]
        return await self._resources.submit("models.fine_tune", request, needs="train", inputs=inputs)
