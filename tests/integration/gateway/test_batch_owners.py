"""Files and batches of several callers, and of gateways that come and go; no worker runs, so that batches wait."""

import json
from collections.abc import AsyncIterator

import httpx
import openai
import pytest

from palimpsest.rpc.tokens import hash_token
from palimpsest.settings import Settings
from services.decoding import DecodingRoom
from services.registry import RegistryRoom
from tests.gateways import gateway_over
from tests.rooms import room_settings, serving, worker_resources

SCOPES = ["artifacts.read", "artifacts.write", "decoding.generate", "jobs.read", "jobs.write", "models.read"]
LINE = {
    "custom_id": "a",
    "method": "POST",
    "url": "/v1/completions",
    "body": {"model": "tiny", "prompt": "the"},
}
FIELDS = {"endpoint": "/v1/completions", "completion_window": "24h"}


@pytest.fixture(scope="module")
async def rooms(valkey, tiny_model, tmp_path_factory) -> AsyncIterator[Settings]:
    """Rooms that ask for tokens, as a gateway finds them: ann and bob are alike, eve may only read models."""
    folder = tmp_path_factory.mktemp("owners")
    tokens = [
        {"name": name, "sha256": hash_token(name), "scopes": scopes}
        for name, scopes in (("ann", SCOPES), ("bob", SCOPES), ("eve", ["models.read"]))
    ]
    (folder / "tokens.json").write_text(json.dumps({"tokens": tokens}))
    (folder / "tokens.json").chmod(0o600)
    settings = room_settings(valkey, folder / "state", tokens_file=folder / "tokens.json", caller_share=1.0)
    worker_resources(settings, tiny=tiny_model)
    async with serving(settings, RegistryRoom(), DecodingRoom()) as server:
        yield settings.model_copy(update={"listen": f"127.0.0.1:{server.port}"})


def caller(url: str, name: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=name, max_retries=0, timeout=60)


async def test_files_and_batches_are_their_callers_own(rooms):
    content, key = json.dumps(LINE).encode() + b"\n", {"Idempotency-Key": "the-same"}
    with gateway_over(rooms) as url:
        async with caller(url, "ann") as ann, caller(url, "bob") as bob, caller(url, "eve") as eve:
            file = await ann.files.create(file=("in.jsonl", content), purpose="batch")
            batch = await ann.batches.create(input_file_id=file.id, extra_headers=key, **FIELDS)
            assert batch.status == "validating"
            for act in (
                bob.files.retrieve(file.id),
                bob.files.content(file.id),
                bob.files.delete(file.id),
                bob.batches.retrieve(batch.id),
                bob.batches.cancel(batch.id),
                bob.batches.create(input_file_id=file.id, **FIELDS),
            ):
                with pytest.raises(openai.NotFoundError):
                    await act
            assert (await bob.files.list()).data == (await bob.batches.list()).data == []
            own = await bob.files.create(file=("in.jsonl", content), purpose="batch")
            other = await bob.batches.create(input_file_id=own.id, extra_headers=key, **FIELDS)
            assert other.id != batch.id  # equal keys of two callers are two
            assert [each.id for each in (await bob.batches.list()).data] == [other.id]
            assert (await bob.batches.cancel(other.id)).status == "cancelled"
            assert (await ann.batches.retrieve(batch.id)).status == "validating"
            for act in (
                eve.files.create(file=("in.jsonl", content), purpose="batch"),
                eve.files.list(),
                eve.batches.list(),
            ):
                with pytest.raises(openai.PermissionDeniedError):
                    await act


async def test_another_gateway_knows_the_same(rooms):
    content = json.dumps(LINE).encode() + b"\nno request\n"
    with gateway_over(rooms) as url:
        async with caller(url, "ann") as ann:
            file = await ann.files.create(file=("in.jsonl", content), purpose="batch")
            batch = await ann.batches.create(input_file_id=file.id, metadata={"a": "b"}, **FIELDS)
    with gateway_over(rooms) as url:
        async with caller(url, "ann") as ann:
            assert await ann.files.retrieve(file.id) == file
            assert (await ann.files.content(file.id)).content == content
            assert await ann.batches.retrieve(batch.id) == batch
            assert (await ann.files.delete(file.id)).deleted  # the batch has what it needs
            cancelled = await ann.batches.cancel(batch.id)
            assert (cancelled.status, cancelled.output_file_id) == ("cancelled", None)
            assert cancelled.metadata == {"a": "b"}
            assert (cancelled.request_counts.total, cancelled.request_counts.failed) == (2, 1)
            errors = (await ann.files.content(cancelled.error_file_id)).content
            [line] = [json.loads(each) for each in errors.splitlines()]
            assert line["response"]["body"]["error"]["code"] == "invalid_json_line"


async def test_the_limits_of_files_and_batches_are_settings(rooms):
    many = b"".join(json.dumps({**LINE, "custom_id": str(at)}).encode() + b"\n" for at in range(3))
    with gateway_over(rooms, file_bytes=1000, batch_lines=2) as url:
        async with caller(url, "ann") as ann:
            file = await ann.files.create(file=("in.jsonl", many), purpose="batch")
            with pytest.raises(openai.BadRequestError, match="more than 2 lines"):
                await ann.batches.create(input_file_id=file.id, **FIELDS)
        async with httpx.AsyncClient(base_url=url, headers={"authorization": "Bearer ann"}) as client:
            form = {"data": {"purpose": "batch"}, "files": {"file": b"a" * 200_000}}
            answer = await client.post("/v1/files", **form)
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
