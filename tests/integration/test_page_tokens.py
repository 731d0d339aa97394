"""A page token that no page gave is INVALID_ARGUMENT, in every listing that there is."""

import base64
import json

import pytest
from google.longrunning import operations_pb2
from google.protobuf import descriptor, descriptor_pool, message_factory

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.rpc.channel import open_aio_channel
from palimpsest.status import from_rpc_error
from services.__main__ import load, room_names
from tests.rooms import room_settings, serving, worker_resources


def listings() -> dict[str, descriptor.MethodDescriptor]:
    """Every method that takes a page token."""
    for room in room_names():
        load(room)
    from palimpsest.api.artifacts.v1 import artifacts_pb2
    from palimpsest.api.codec.v1 import codec_pb2
    from palimpsest.api.datastore.v1 import datastore_pb2
    from palimpsest.api.decoding.v1 import decoding_pb2
    from palimpsest.api.jobs.v1 import jobs_pb2
    from palimpsest.api.models.v1 import models_pb2

    files = [artifacts_pb2, codec_pb2, datastore_pb2, decoding_pb2, jobs_pb2, models_pb2, operations_pb2]
    services = [service for file in files for service in file.DESCRIPTOR.services_by_name.values()]
    return {
        method.name: method
        for service in services
        for method in service.methods
        if "page_token" in method.input_type.fields_by_name
    }


LISTINGS = listings()


def coded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


TOKENS = {
    "Arabic digits": "٣",
    "full-width digits": "１２",
    "32 Arabic digits": "٣" * 32,
    "31 digits and one of another script": "0" * 31 + "３",
    "superscript": "²",
    "400 digits": "1" * 400,
    "minus": "-1",
    "minus and 31 digits": "-" + "1" * 31,
    "plus": "+1",
    "0X": "0X" + "1" * 30,
    "blanks": " 1 ",
    "a line break": "1\n",
    "nothing": "NaN",
    "infinity": "Infinity",
    "a zero": "\0",
    "a right-to-left mark": "\u202e1",
    "an emoji": "🦊",
    "not base64": "=" * 8,
    "nested": coded("[" * 300),
    "digits": coded("[" + "9" * 300 + ', "a"]'),
    "a huge number": coded('[1e400, "a"]'),
    "a number beyond floats": coded("[" + "9" * 320 + ', "a"]'),
    "half a surrogate pair": coded('[1.5, "\\ud800"]'),
    "three": coded('[1.0, "a", "b"]'),
    "an object": coded('{"1": 2, "3": 4}'),
    "text for a number": coded(json.dumps(["1", "a"])),
    "truth": coded("[true, true]"),
    "null": coded("[null, null]"),
}


def test_every_listing_is_here():
    assert {"ListOperations", "ListArtifacts", "ListModels", "ListContexts", "ListCorpora"} < LISTINGS.keys()
    assert {"ListDocuments", "ListNgramStores"} < LISTINGS.keys()


@pytest.fixture(scope="module")
async def target(valkey, tmp_path_factory, tiny_model):
    settings = room_settings(valkey, tmp_path_factory.mktemp("pages"))
    worker_resources(settings, tiny=tiny_model)
    async with serving(settings, *(load(name) for name in room_names())) as server:
        target = f"127.0.0.1:{server.port}"
        await call(target, "CreateCorpus", corpus_id="mine", model="tiny", encoder="hashed-words")
        yield target


async def call(target: str, name: str, **fields: object):
    method = LISTINGS.get(name) or descriptor_pool.Default().FindMethodByName(
        f"palimpsest.api.datastore.v1.DatastoreService.{name}"
    )
    request, response = (message_factory.GetMessageClass(t) for t in (method.input_type, method.output_type))
    async with open_aio_channel(target) as channel:
        invoke = channel.unary_unary(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
        try:
            return await invoke(request(**fields), timeout=30)
        except Exception as error:
            raise from_rpc_error(error) from None


@pytest.mark.parametrize("name", LISTINGS)
async def test_a_token_that_no_page_gave_is_refused(target, name):
    parent = {"corpus": "corpora/mine"} if name == "ListDocuments" else {}
    assert not (await call(target, name, **parent)).next_page_token
    for what, token in TOKENS.items():
        with pytest.raises(InvalidArgument) as refused:
            await call(target, name, page_token=token, **parent)
        assert refused.value.reason == Reason.PAGE_TOKEN_INVALID, (what, refused.value)
        assert [violation.field for violation in refused.value.violations] == ["page_token"], what
