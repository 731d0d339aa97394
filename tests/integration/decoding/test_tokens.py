"""Tokenize, Detokenize and GetTokenizer, and conversations with tools, over real calls."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from palimpsest import AsyncClient
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.errors import InvalidArgument, NotFound
from palimpsest.rpc.server import Server
from services.decoding import DecodingRoom
from tests.rooms import client_of, room_settings, serving, worker_resources

TEXT = "the quick é🦊"


@pytest.fixture(scope="module")
async def server(
    valkey: ValkeyServer, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Server]:
    settings = room_settings(valkey, tmp_path_factory.mktemp("tokens"))
    worker_resources(settings, tiny=tiny_model)
    async with serving(settings, DecodingRoom()) as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncClient]:
    async with client_of(server) as client:
        yield client


async def test_tokens_are_what_generate_reads_and_make_the_text_again(client, tiny_model):
    found = await client.decoding.tokenize(model="tiny", text=TEXT, pieces=True)
    assert list(found.ids) == AutoTokenizer.from_pretrained(tiny_model)(TEXT).input_ids
    assert b"".join(found.pieces).decode() == TEXT
    assert found.context_length == 2048
    back = await client.decoding.detokenize(model="tiny", ids=found.ids, pieces=True)
    assert back.text == TEXT
    assert back.pieces == found.pieces


async def test_a_conversation_has_its_text_too(client):
    chat = [{"role": "user", "content": "fox?"}]
    found = await client.decoding.tokenize(model="tiny", chat=chat)
    assert found.text == "<|im_start|>user\nfox?<|im_end|>\n<|im_start|>assistant\n"
    assert not found.pieces
    async with client.decoding.generate(model="tiny", chat=chat, max_tokens=1) as events:
        started = (await anext(events)).started
    assert started.prompt_tokens == len(found.ids)


async def test_a_tokenizer_is_described(client):
    found = await client.decoding.get_tokenizer(model="tiny")
    assert (found.eos_token, found.bos_token, found.takes_tools) == ("<|end|>", "", False)
    assert list(found.roles) == ["system", "user", "assistant"]
    assert found.context_length == 2048


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({}, "PROMPT_EMPTY", "text"),
        ({"text": "a", "tools": [{"name": "f"}]}, "INVALID_REQUEST", "tools"),
        ({"chat": [{"role": "developer", "content": "a"}]}, "CHAT_ROLE_UNKNOWN", "chat.messages[0].role"),
        (
            {"chat": [{"role": "user", "content": "a"}], "tools": [{"name": "f"}]},
            "TOOLS_UNSUPPORTED",
            "tools",
        ),
        (
            {"chat": [{"role": "user", "content": "a"}], "tools": [{"name": "f", "parameters": "[1]"}]},
            "TOOL_INVALID",
            "tools[0].parameters",
        ),
        (
            {
                "chat": [
                    {"role": "assistant", "content": "a", "tool_calls": [{"name": "f", "arguments": "{"}]}
                ]
            },
            "TOOL_INVALID",
            "chat.messages[0].tool_calls[0].arguments",
        ),
    ],
)
async def test_what_a_model_cannot_read_is_refused_by_every_call(client, fields, reason, field):
    with pytest.raises(InvalidArgument) as caught:
        await client.decoding.tokenize(model="tiny", **fields)
    assert (caught.value.reason, caught.value.violations[0].field) == (reason, field)
    if fields:
        renamed = {{"text": "prompt"}.get(name, name): value for name, value in fields.items()}
        with pytest.raises(InvalidArgument) as again:
            async with client.decoding.generate(model="tiny", max_tokens=1, **renamed) as events:
                await anext(events)
        assert again.value.reason == reason


async def test_what_is_not_there_is_said(client):
    with pytest.raises(NotFound):
        await client.decoding.get_tokenizer(model="absent")
    with pytest.raises(InvalidArgument) as caught:
        await client.decoding.detokenize(model="tiny", ids=[99999])
    assert caught.value.reason == "TOKEN_ID_OUT_OF_RANGE"
