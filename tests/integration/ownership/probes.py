"""What each call may name: requests with places for somebody's things, and a way to send them to any method.

A place is ``<noun>`` in a text; see ``test_every_call.Nouns``.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pool, json_format
from google.protobuf.message_factory import GetMessageClass

from palimpsest.status import from_rpc_error

MODEL = {"model": "tiny"}
SHAPE = {"layers": 2, "kv_heads": 2, "key_dim": 16, "value_dim": 16, "dtype": "float32", "tokens": 3}
SHORT = {**MODEL, "max_tokens": 1, "ignore_eos": True}
SPAN = {"document": "letter", "version": 1, "byte_end": 4, "sha256": "0" * 64}
NEST = {"nest": {"corpora": ["<corpus>"]}}

GRAFTED = {"base": "tiny", "donor": "<artifact>"}
CASE = {"prompt": "the quick brown", "target": " fox"}
REMOVAL = {**MODEL, "new_model": "cleaned", "algorithm": "ga"}

Request = dict[str, Any]


def _corpus(**fields: Any) -> list[list[Request]]:
    return [[{"corpus": "<corpus>", **fields}]]


PROBES: dict[str, list[list[Request]]] = {
    "ArtifactService/WriteArtifact": [
        [{"open": {"upload_id": "<fresh>", "digest": "<artifact>"}}, {"finish": True}]
    ],
    "ArtifactService/QueryWriteStatus": [[{"upload_id": "<upload>"}]],
    "ArtifactService/ReadArtifact": [[{"digest": "<artifact>"}]],
    "ArtifactService/GetArtifact": [[{"digest": "<artifact>"}]],
    "ArtifactService/ListArtifacts": [[{}]],
    "ArtifactService/FindMissing": [[{"digests": ["<artifact>"]}]],
    "JobsService/WatchOperation": [[{"name": "<job>"}]],
    "JobsService/RetryJob": [[{"name": "<job>"}]],
    "Operations/GetOperation": [[{"name": "<job>"}]],
    "Operations/ListOperations": [[{}]],
    "Operations/WaitOperation": [[{"name": "<job>", "timeout": "0s"}]],
    "ModelService/FineTune": [
        [{"base": "tiny", "model_id": "other", "train": "<artifact>"}],
        [{"base": "tiny", "model_id": "other", "train": "<own artifact>", "validation": "<artifact>"}],
    ],
    "CodecService/CreateContext": [[{**MODEL, "text_artifact": "<artifact>"}]],
    "CodecService/PutContext": [
        [{"spec": {**MODEL, "tokens": {"ids": [5, 6, 7]}, "shape": SHAPE, "context_id": "<context id>"}}]
    ],
    "CodecService/GetContext": [[{"name": "<context>"}]],
    "CodecService/ListContexts": [[{}]],
    "CodecService/LookUpContext": [[{**MODEL, "text": "<prompt>"}]],
    "CodecService/LoadContext": [[{"begin": {"name": "<context>"}}]],
    "CodecService/Estimate": [[{"name": "<context>", "settings": {"bandwidth": 1e6}}]],
    "CodecService/Calibrate": [[{**MODEL, "texts": "<artifact>"}]],
    "DatastoreService/GetCorpus": [[{"name": "<corpus>"}]],
    "DatastoreService/ListCorpora": [[{}]],
    "DatastoreService/AddDocuments": [[{"open": {"corpus": "<corpus>"}}]],
    "DatastoreService/GetDocument": _corpus(document="letter"),
    "DatastoreService/StatDocument": _corpus(document="letter"),
    "DatastoreService/ListDocuments": _corpus(),
    "DatastoreService/Search": [[{"corpora": ["<corpus>"], "query": "secret"}]],
    "DatastoreService/ContinueText": [[{"corpora": ["<corpus>"], "text": "a secret of"}]],
    "DatastoreService/OpenSession": [
        [{"corpora": ["<corpus>"], "query": "secret", "model_fingerprint": "<fingerprint>"}]
    ],
    "DatastoreService/PutKeys": [[{"begin": {"corpus": "<corpus>", "model_fingerprint": "<fingerprint>"}}]],
    "DatastoreService/WatchDeletions": [[{"watch": {"corpora": ["<corpus>"]}}]],
    "DatastoreService/VerifySpans": [[{"spans": [{"corpus": "<corpus>", **SPAN}]}]],
    "DatastoreService/BuildIndex": _corpus(),
    "DatastoreService/WarmKeys": _corpus(),
    "DatastoreService/Calibrate": _corpus(),
    "DatastoreService/Compact": _corpus(),
    "DatastoreService/BuildNgramStore": [
        [{"store_id": "other", "corpus": "<corpus>"}],
        [{"store_id": "other", "text_artifact": "<artifact>", **MODEL}],
    ],
    "DatastoreService/GetNgramStore": [[{"name": "<ngrams>"}]],
    "DatastoreService/ListNgramStores": [[{}]],
    "DatastoreService/InspectNgrams": [[{"name": "<ngrams>", "text": "a secret"}]],
    "DecodingService/Generate": [
        [{**SHORT, "prompt": "<prompt>"}],
        [{**SHORT, "prompt": "x", "context": "<context>"}],
        [{**SHORT, "prompt": "a secret", **NEST}],
    ],
    "DecodingService/Draft": [
        [{**SHORT, "prompt": "<prompt>", "settings": {"strategy": "STRATEGY_BEAM"}, "cache_salt": "drafts"}],
        [
            {
                **SHORT,
                "prompt": "a secret",
                "settings": {"ngrams": "<ngrams>", "strategy": "STRATEGY_SUPERPOSED"},
            }
        ],
        [{**SHORT, "prompt": "a secret", **NEST}],
    ],
    "DecodingService/Score": [[{**MODEL, "text": "a secret of ann's", **NEST}]],
    "DecodingService/GenerateBatch": [[{**MODEL, "input": "<artifact>"}]],
    "DecodingService/TuneDrafts": [
        [{**MODEL, "ngrams": "<ngrams>", "texts": "<artifact>"}],
        [{**MODEL, "ngrams": "<ngrams>", "texts": "<own artifact>"}],
    ],
    "UnlearningService/PreviewRemoval": [[{"plan": {**REMOVAL, "forget": "<artifact>"}}]],
    "UnlearningService/CreateRemovalRequest": [[{"plan": {**REMOVAL, "forget": "<artifact>"}}]],
    "UnlearningService/GetRemovalRequest": [[{"name": "<removal>"}]],
    "UnlearningService/ListRemovalRequests": [[{}]],
    "UnlearningService/GetCertificate": [[{"name": "<removal>"}]],
    "UnlearningService/ReadAuditLog": [[{}]],
    "UnlearningService/HoldRemovalRequest": [[{"name": "<removal>"}]],
    "UnlearningService/ApproveRemovalRequest": [[{"name": "<removal>"}]],
    "UnlearningService/RollBackRemovalRequest": [[{"name": "<removal>"}]],
    "GraftingService/CheckPair": [[{"pair": GRAFTED}]],
    "GraftingService/Graft": [
        [{"pair": GRAFTED, "case": CASE, "patches": [{"positions": {"everything": True}}]}]
    ],
    "GraftingService/GenerateGrafted": [[{"pair": GRAFTED, "prompt": "the quick"}]],
    "GraftingService/PlanGrafts": [[{"pair": GRAFTED, "cases": [CASE]}]],
    "GraftingService/SweepGrafts": [[{"pair": GRAFTED, "cases": [CASE]}]],
    # What gives bob a thing of the same name, or ends ann's, comes last.
    "DatastoreService/CreateCorpus": [
        [{**MODEL, "corpus_id": "<taken id>", "encoder": "hashed-words", "passage_tokens": 32}]
    ],
    "Operations/CancelOperation": [[{"name": "<job>"}]],
    "Operations/DeleteOperation": [[{"name": "<ended job>"}]],
    "CodecService/DeleteContext": [[{"name": "<context>"}]],
    "DatastoreService/DeleteNgramStore": [[{"name": "<ngrams>"}]],
    "DatastoreService/DeleteDocuments": _corpus(documents=["letter"]),
    "DatastoreService/Purge": _corpus(),
    "DatastoreService/DeleteCorpus": [[{"name": "<corpus>"}]],
    "ArtifactService/DeleteArtifact": [[{"digest": "<spare artifact>"}]],
}
"""Requests of each method, by ``Service/Method``."""

ELSEWHERE = {
    "CodecService/DecodeCache": (
        "tests/integration/codec/test_ownership.py",
        "test_a_chunk_cannot_ask_whether_somebody_has_an_artefact",
    ),
}
"""Methods that name things in a way of their own, and the test that tries it."""

MAKES = ("CreateContext", "CreateCorpus", "Calibrate", "BuildIndex", "WarmKeys", "Compact", "Purge", "BuildNgramStore",
         "GenerateBatch", "TuneDrafts", "FineTune", "RetryJob")  # fmt: skip
"""Their answers to those who may call them have names and times of their own."""
MESSAGES = {"Draft": 2}
"""Messages of a stream that are read, if not one."""


async def outcome(
    channel: grpc.aio.Channel, method: str, requests: Sequence[Request], token: str
) -> tuple[str, ...]:
    """Call a method: ``("OK", text of the first messages)`` or an error with all it says."""
    found = descriptor_pool.Default().FindMethodByName(method.lstrip("/").replace("/", "."))
    sent = [json_format.ParseDict(each, GetMessageClass(found.input_type)()) for each in requests]
    streams = (
        f"{'stream' if found.client_streaming else 'unary'}_{'stream' if found.server_streaming else 'unary'}"
    )
    call = getattr(channel, streams)(
        method,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(found.output_type).FromString,
    )(
        _each(sent) if found.client_streaming else sent[0],
        metadata=(("authorization", f"Bearer {token}"),),
        timeout=60,
    )
    answers, most = [], MESSAGES.get(method.rpartition("/")[2], 1)
    try:
        if found.server_streaming:
            async for answer in call:
                answers.append(answer)
                if len(answers) == most:
                    call.cancel()
                    break
        else:
            answers.append(await call)
    except grpc.RpcError as error:
        known = from_rpc_error(error)
        said = [f"{field}: {text}" for field, text in known.violations]
        return known.code.name, known.reason, known.message, repr(sorted(known.metadata.items())), *said
    return "OK", *map(str, answers)


async def _each(messages: Sequence[Any]) -> AsyncIterator[Any]:
    for message in messages:
        yield message
