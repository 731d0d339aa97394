"""What no endpoint takes, tokens and scopes, and callers that leave."""

import json
from collections.abc import AsyncIterator

import httpx
import openai
import pytest

from palimpsest.rpc.tokens import hash_token
from services.decoding import DecodingRoom
from services.registry import RegistryRoom
from tests.gateways import gateway_over
from tests.rooms import room_settings, serving, worker_resources
from tests.waiting import until_async

BODY = {"prompt": "the quick", "max_tokens": 2}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"[1]", "invalid_json"),
        (b'"text"', "invalid_json"),
        (b"\xff\xfe{}", "invalid_json"),
        (b'{"prompt": "a", "prompt": "b"}', "invalid_json"),
        (b'{"prompt": "a", "temperature": NaN}', "invalid_json"),
        (b'{"prompt": "\\ud800"}', "invalid_json"),
        (b'{"prompt":' + b"[" * 5000, "invalid_json"),
        (b"{}", "missing_required_parameter"),
    ],
)
def test_a_body_that_is_no_request_is_refused(http, body, code):
    answer = http.post("/v1/completions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == code


def test_a_body_of_another_type_is_refused(http):
    """A page of somebody's cannot send JSON to this address without asking; it can send forms."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = http.post("/v1/completions", content=b"{}", headers={"content-type": kind})
        assert answer.status_code == 415
        assert "application/json" in answer.json()["error"]["message"]
    good = http.post(
        "/v1/completions", content=b"{", headers={"content-type": "application/json; charset=utf-8"}
    )
    assert good.status_code == 400


def test_a_body_that_is_too_large_is_refused_before_it_is_read(http):
    def forever():
        for _ in range(1 << 20):
            yield b" " * 4096

    answer = http.post(
        "/v1/completions", content=b"x", headers={"content-type": "application/json", "content-length": "1"}
    )
    assert answer.status_code == 400
    headers = {"content-type": "application/json"}
    try:
        answer = http.post("/v1/completions", content=forever(), headers=headers)
    except httpx.WriteError:
        return  # it was refused while it was still being sent
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "body_too_large"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_caller_that_leaves_stops_the_engine(stack, grpc, tiny, stream):
    async def running() -> bool:
        info = await grpc.decoding.get_engine_info()
        return sum(model.running + model.waiting for model in info.models) > 0

    async def idle() -> bool:
        return not await running()

    async def generated() -> int:
        info = await grpc.decoding.get_engine_info()
        return sum(model.generated_tokens for model in info.models)

    # Loads the model, so that the counters are there.
    async with openai.AsyncOpenAI(base_url=f"{stack.gateway}/v1", api_key=stack.token or "none") as ask:
        await ask.completions.create(model=tiny, prompt="the", max_tokens=1)
    await until_async(idle)
    before = await generated()
    body = {
        "model": tiny, "prompt": "the quick", "max_tokens": 1900, "n": 8, "ignore_eos": True, "stream": stream,
        "logprobs": 5,
    }  # fmt: skip
    headers = {"authorization": f"Bearer {stack.token}"} if stack.token else {}
    async with httpx.AsyncClient(base_url=stack.gateway, headers=headers) as client:
        if stream:
            async with client.stream("POST", "/v1/completions", json=body) as answer:
                async for line in answer.aiter_lines():
                    assert line.startswith("data: ")
                    break
        else:
            with pytest.raises(httpx.ReadTimeout):
                await client.post("/v1/completions", json=body, timeout=0.4)
    await until_async(idle)
    assert await generated() - before < 8 * 1900


@pytest.fixture(scope="module")
async def guarded(valkey, tiny_model, tmp_path_factory) -> AsyncIterator[str]:
    """A gateway over rooms that ask for tokens: "full" may do everything, "reader" may read models."""
    folder = tmp_path_factory.mktemp("guarded")
    tokens = [
        {"name": "ann", "sha256": hash_token("full"), "scopes": ["*"]},
        {"name": "bob", "sha256": hash_token("reader"), "scopes": ["models.read"]},
    ]
    (folder / "tokens.json").write_text(json.dumps({"tokens": tokens}))
    (folder / "tokens.json").chmod(0o600)
    settings = room_settings(valkey, folder / "state", tokens_file=folder / "tokens.json", caller_share=1.0)
    worker_resources(settings, tiny=tiny_model)
    async with serving(settings, RegistryRoom(), DecodingRoom()) as server:
        with gateway_over(
            settings.model_copy(update={"listen": f"127.0.0.1:{server.port}"}), body_bytes=1000
        ) as url:
            yield url


async def test_tokens_and_scopes_are_those_of_the_rooms(guarded):
    async def answer(token: str):
        client = openai.AsyncOpenAI(base_url=f"{guarded}/v1", api_key=token, max_retries=0)
        async with client:
            models = await client.models.list()
            return models, await client.completions.create(model="tiny", prompt="the", max_tokens=1)

    assert (await answer("full"))[0].data[0].id == "tiny"
    with pytest.raises(openai.AuthenticationError) as unknown:
        await answer("wrong")
    assert unknown.value.code == "invalid_api_key"
    with pytest.raises(openai.PermissionDeniedError) as refused:
        await answer("reader")
    assert refused.value.code == "scope_missing"


async def test_a_request_without_a_token_is_refused_and_the_probe_is_not(guarded):
    async with httpx.AsyncClient(base_url=guarded) as client:
        answer = await client.post("/v1/completions", json=BODY)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["type"] == "authentication_error"
        empty = await client.get("/v1/models", headers={"authorization": "Bearer"})
        assert (empty.status_code, empty.json()["error"]["code"]) == (401, "invalid_api_key")
        odd = await client.get("/v1/models", headers={"authorization": "Basic abc"})
        assert odd.status_code == 401
        assert (await client.get("/health")).json() == {"status": "ok"}


async def test_the_limit_of_a_body_is_a_setting(guarded):
    async with httpx.AsyncClient(base_url=guarded) as client:
        answer = await client.post("/v1/completions", json={"prompt": "x" * 1000})
        assert answer.status_code == 413


def test_a_client_without_a_key_needs_none_where_none_is_asked_for(stack, tiny):
    """lm-evaluation-harness sends the word alone."""
    if stack.token is None:
        answer = httpx.get(f"{stack.gateway}/v1/models", headers={"authorization": "Bearer"}, timeout=60)
        assert answer.status_code == 200


async def test_rooms_that_are_away_are_a_503(settings):
    with gateway_over(settings.model_copy(update={"listen": "127.0.0.1:9"})) as url:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            answer = await client.get("/v1/models")
            assert answer.status_code == 503
            assert "retry-after" in answer.headers
            assert answer.json()["error"]["type"] == "server_error"
            assert (await client.get("/health")).status_code == 503
