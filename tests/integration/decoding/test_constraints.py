"""Penalties, forbidden words and text of a form, over a real socket and in lines of a batch, with the tiny model."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from transformers import AutoTokenizer

from palimpsest import AsyncClient
from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.errors import InvalidArgument, Reason
from palimpsest.models import register
from palimpsest.progress import NullProgress
from palimpsest.rpc.server import Server
from services.decoding import DecodingRoom
from tests.rooms import client_of

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 5},
        "kind": {"enum": ["fox", "dog"]},
        "ages": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "maxItems": 2},
    },
    "required": ["name", "kind", "ages"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture
async def client(settings, tiny_model) -> AsyncIterator[AsyncClient]:
    quick = settings.model_copy(update={"dtype": "float32", "device": "cpu", "engine_cache_bytes": 8 << 20})
    server = Server(quick, [DecodingRoom()])
    await server.start()
    await asyncio.to_thread(register, "tiny", str(tiny_model), server.resources.models, quick, NullProgress())
    async with client_of(server) as client:
        yield client
    await server.stop(0.2)


async def ends(client: AsyncClient, **fields: Any) -> list[pb.SequenceFinished]:
    asked = {"model": "tiny", "prompt": "the quick brown", "max_tokens": 20, **fields}
    async with client.decoding.generate(**asked) as events:
        found = [event.finished async for event in events if event.HasField("finished")]
    return sorted(found, key=lambda end: end.index)


async def test_a_form_holds_for_every_sequence(client):
    found = await ends(
        client,
        structured={"json_schema": json.dumps(SCHEMA)},
        n=3,
        max_tokens=400,
        sampling={"temperature": 1.0, "seed": 3},
    )
    for end in found:
        assert end.reason == pb.FINISH_REASON_EOS
        Draft202012Validator(SCHEMA).validate(json.loads(end.text))
    assert len({end.text for end in found}) > 1
    [end] = await ends(client, structured={"regex": "[a-c]{3}-[0-9]+"}, max_tokens=6)
    assert re.fullmatch("[a-c]{0,3}-?[0-9]*", end.text)
    [end] = await ends(client, structured={"choice": {"texts": ["red", "green (dark)"]}}, min_tokens=6)
    assert end.text in ("red", "green (dark)")
    [end] = await ends(client, structured={"grammar": 'start: "a" /b+/ "c"'}, stop=["bb"])
    assert re.fullmatch("ab+c|ab*", end.text)


@pytest.mark.parametrize(
    ("structured", "named"),
    [
        ({"json_schema": '{"type": "array", "uniqueItems": true}'}, "uniqueItems"),
        ({"json_schema": "{nothing"}, "not usable JSON"),
        ({"regex": "(?=a)b"}, "look-around"),
        ({"grammar": "start: nothing"}, "nothing"),
        ({}, "names no form"),
    ],
)
async def test_what_cannot_be_honoured_is_refused_before_the_first_token(client, structured, named):
    with pytest.raises(InvalidArgument, match=named) as caught:
        await ends(client, structured=pb.StructuredOutput(**structured))
    assert caught.value.reason == Reason.STRUCTURED_INVALID
    info = await client.decoding.get_engine_info()
    assert [model.generated_tokens for model in info.models] == [0]


async def test_penalties_and_biases_reach_the_engine(client, tokenizer):
    fox = tokenizer("fox").input_ids[0]
    [forced] = await ends(client, sampling={"logit_bias": {fox: 100.0}}, max_tokens=4)
    assert forced.text == tokenizer.decode([fox] * 4)
    kept = {"logit_bias": {fox: 100.0}, "frequency_penalty": 2.0}
    [kept_end] = await ends(client, sampling=kept, max_tokens=4)
    assert kept_end.text == forced.text
    plain = (await ends(client, ignore_eos=True, max_tokens=40))[0].text
    for penalty in ({"repetition_penalty": 1.8}, {"presence_penalty": 2.0}, {"frequency_penalty": 2.0}):
        [end] = await ends(client, ignore_eos=True, max_tokens=40, sampling=penalty)
        assert end.text != plain


async def written(client: AsyncClient, **fields: Any) -> tuple[list[int], pb.SequenceFinished]:
    asked = {"model": "tiny", "prompt": "the quick brown", "max_tokens": 20, "ignore_eos": True, **fields}
    async with client.decoding.generate(**asked) as events:
        kept = [event async for event in events]
    ids = [token for event in kept for token in event.delta.token_ids]
    return ids, next(event.finished for event in kept if event.HasField("finished"))


async def test_words_and_tokens_are_kept_out_or_end_the_text(client, tokenizer):
    free, _ = await written(client)
    letters = [token for token in free if tokenizer.decode([token]).isalpha() and token > 3]
    word = tokenizer.decode(letters[:1])
    without, _ = await written(client, bad_words=[word])
    assert tokenizer(word).input_ids == letters[:1]
    assert letters[0] not in without
    cut, end = await written(client, stop_token_ids=letters[:1])
    assert end.reason == pb.FINISH_REASON_STOP
    assert cut == free[: free.index(letters[0]) + 1]
    assert end.text == tokenizer.decode(cut[:-1])
    longer, end = await written(client, stop_token_ids=letters[:1], min_tokens=19)
    assert letters[0] not in longer[:19]
    assert end.generated_tokens >= 19


SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"sampling": {"repetition_penalty": 1.2}}, "sampling.repetition_penalty"),
    ({"sampling": {"presence_penalty": 1.0}}, "sampling.presence_penalty"),
    ({"sampling": {"frequency_penalty": 1.0}}, "sampling.frequency_penalty"),
    ({"sampling": {"logit_bias": {3: 1.0}}}, "sampling.logit_bias"),
    ({"min_tokens": 3}, "min_tokens"),
    ({"stop_token_ids": [3]}, "stop_token_ids"),
    ({"bad_words": ["fox"]}, "bad_words"),
    ({"structured": {"regex": "a"}}, "structured"),
]


@pytest.mark.parametrize(("fields", "name"), SETTINGS)
async def test_quoting_refuses_by_name_what_it_cannot_honour(client, fields, name):
    with pytest.raises(InvalidArgument) as caught:
        await ends(client, nest={"corpora": ["corpora/any"]}, **fields)
    assert caught.value.reason == Reason.SETTING_UNSUPPORTED
    assert [v.field for v in caught.value.violations] == [name]


@pytest.mark.parametrize(("fields", "name"), SETTINGS[:4])
async def test_drafts_refuse_by_name_what_they_cannot_honour(client, fields, name):
    with pytest.raises(InvalidArgument) as caught:
        async with client.decoding.draft(model="tiny", prompt="the", **fields) as events:
            _ = [event async for event in events]
    assert caught.value.reason == Reason.SETTING_UNSUPPORTED
    assert [v.field for v in caught.value.violations] == [name]


async def test_settings_that_cannot_hold_are_refused(client):
    for fields, reason in [
        ({"min_tokens": 21}, Reason.MIN_TOKENS_TOO_LARGE),
        ({"bad_words": [" "]}, Reason.BAD_WORD_EMPTY),
        ({"stop_token_ids": [70000]}, Reason.TOKEN_ID_OUT_OF_RANGE),
        ({"sampling": {"logit_bias": {70000: 1.0}}}, Reason.TOKEN_ID_OUT_OF_RANGE),
        ({"sampling": {"repetition_penalty": 0.0}}, Reason.INVALID_REQUEST),
        ({"structured": {"regex": "a"}, "ignore_eos": True}, Reason.SETTING_UNSUPPORTED),
    ]:
        with pytest.raises(InvalidArgument) as caught:
            await ends(client, **fields)
        assert caught.value.reason == reason


async def test_a_batch_with_a_form_that_cannot_be_honoured_is_not_queued(client):
    artifact = "sha256:" + "0" * 64
    with pytest.raises(InvalidArgument) as caught:
        await client.decoding.generate_batch(model="tiny", input=artifact, structured={"regex": "("})
    assert caught.value.reason == Reason.STRUCTURED_INVALID
