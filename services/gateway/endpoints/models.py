"""``/v1/models``: the registry's models."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from palimpsest.api.models.v1 import models_pb2
from services.gateway.calls import rooms_of


async def list_models(request: Request) -> Response:
    """``GET /v1/models``."""
    room = rooms_of(request).models
    found: list[models_pb2.Model] = []
    token = ""
    while True:
        page = await room.list_models(page_size=1000, page_token=token)
        found += page.models
        token = page.next_page_token
        if not token:
            return JSONResponse({"object": "list", "data": [body_of(model) for model in found]})


async def get_model(request: Request) -> Response:
    """``GET /v1/models/{id}``."""
    model = await rooms_of(request).models.get_model(model_id=request.path_params["model"])
    return JSONResponse(body_of(model))


def body_of(model: models_pb2.Model) -> dict[str, Any]:
    """A model in OpenAI's form, with what else a client may want to know of it."""
    return {
        "id": model.model_id,
        "object": "model",
        "created": model.create_time.seconds,
        "owned_by": "palimpsest",
        "root": model.model_id,
        "parent": model.parent or None,
        "max_model_len": model.context_length,
        "fingerprint": model.fingerprint,
        "has_chat_template": model.has_chat_template,
    }
