"""Every field of every endpoint with values that nobody means: an answer or a refusal, never a failure of ours."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from services.gateway.batches.batch_endpoints import BatchBody
from services.gateway.endpoints.chat import ChatBody
from services.gateway.endpoints.completions import CompletionsBody
from services.gateway.endpoints.embeddings import EmbeddingsBody, RerankBody
from services.gateway.endpoints.tokens import ApplyTemplateBody, DetokenizeBody, TokenizeBody

ODD: list[Any] = [
    None, True, -1, 65, 1 << 40, 0.5, 1e308, "", "\u0000", "é🦊" * 99, [], [0], ["a"], [[1]], [None], [{}], {},
    {"a": 1}, {"type": "json_object"}, {"regex": "(a|"}, {"k": 2}, [{"role": "user"}],
    [{"type": "function", "function": {"name": "f"}}],
]  # fmt: skip
CHAT = [{"role": "user", "content": "fox?"}]
ENDPOINTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "/v1/completions": (CompletionsBody, {"prompt": "the", "max_tokens": 2}),
    "/v1/chat/completions": (ChatBody, {"messages": CHAT, "max_tokens": 2}),
    "/v1/embeddings": (EmbeddingsBody, {"model": "hashed-words", "input": "a"}),
    "/v1/rerank": (RerankBody, {"model": "hashed-words", "query": "a", "documents": ["a"]}),
    "/v1/batches": (
        BatchBody,
        {"input_file_id": "a", "endpoint": "/v1/completions", "completion_window": "24h"},
    ),
    "/tokenize": (TokenizeBody, {"prompt": "a"}),
    "/detokenize": (DetokenizeBody, {"tokens": [5]}),
    "/apply-template": (ApplyTemplateBody, {"messages": CHAT}),
}


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_no_value_is_a_failure_of_ours(stack, tiny, path):
    kind, base = ENDPOINTS[path]
    base = {"model": tiny, **base} if "model" in kind.model_fields else base
    headers = {"authorization": f"Bearer {stack.token}"} if stack.token else {}
    async with httpx.AsyncClient(base_url=stack.gateway, headers=headers, timeout=120) as client:

        async def tried(name: str, value: Any) -> tuple[str, Any, httpx.Response]:
            async with places:
                return name, value, await client.post(path, json={**base, name: value})

        places = asyncio.Semaphore(8)
        works = [tried(name, value) for name in kind.model_fields for value in ODD]
        for name, value, answer in await asyncio.gather(*works):
            where = f"{path} {name}={json.dumps(value)[:80]}: {answer.status_code} {answer.text[:300]}"
            assert answer.status_code in (200, 400, 404, 429), where
            if answer.status_code != 200:
                assert set(answer.json()["error"]) == {"message", "type", "param", "code"}, where
            elif not answer.headers["content-type"].startswith("text/event-stream"):
                answer.json()
