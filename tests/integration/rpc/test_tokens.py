"""A tokens file that is damaged while a server runs, seen by its callers."""

import asyncio

import pytest

from palimpsest import AsyncClient
from palimpsest.errors import FailedPrecondition, PermissionDenied, Reason, Unauthenticated
from palimpsest.rpc.server import Server
from services.registry import RegistryRoom
from tests.integration.jobs.guarded import serving, write_tokens


@pytest.fixture
def tokens(tmp_path):
    write_tokens(tmp_path / "tokens.json", {"ann": ["models.*"], "reader": ["jobs.read"]})
    return tmp_path / "tokens.json"


@pytest.mark.parametrize("damage", ["half written", "missing", "null hash", "text for a list", "a folder"])
async def test_callers_keep_what_they_had_and_get_no_more(settings, tokens, damage):
    sound = tokens.read_text()
    async with serving(settings, [RegistryRoom()], tokens) as served:

        async def lists(name):
            async with AsyncClient(served.listen, token=name) as client:
                return await client.models.list_models()

        await lists("ann")
        match damage:
            case "half written":
                tokens.write_text(sound[: len(sound) // 2])
            case "missing":
                tokens.unlink()
            case "null hash":
                write_tokens(tokens, {"ann": []})
                tokens.write_text(tokens.read_text().replace('"sha256": "', '"sha256": null, "was": "'))
            case "text for a list":
                tokens.write_text(sound.replace('["jobs.read"]', '"models.*"'))
            case "a folder":
                tokens.unlink()
                tokens.mkdir()
        outcomes = await asyncio.gather(
            *(lists(name) for name in ["ann", "reader", "eve"] * 5), return_exceptions=True
        )
        for ann, reader, eve in zip(*[iter(outcomes)] * 3, strict=True):
            assert not isinstance(ann, BaseException)
            assert isinstance(reader, PermissionDenied)
            assert isinstance(eve, Unauthenticated)
        if damage == "a folder":
            tokens.rmdir()
        write_tokens(tokens, {"eve": ["models.read"]})
        await lists("eve")
        with pytest.raises(Unauthenticated):
            await lists("ann")


async def test_a_server_says_why_it_does_not_start(settings, tokens):
    tokens.write_text('{"tokens": [{"name": "ann", "sha256": null}]}')
    server = Server(settings.model_copy(update={"tokens_file": tokens}), [RegistryRoom()])
    with pytest.raises(FailedPrecondition, match=r"tokens\[0\]\.sha256 \('ann'\) must be 64") as caught:
        await server.start()
    assert caught.value.reason == Reason.TOKENS_FILE
