"""What a first program leans on: short names, lists of prompts, lists that iterate, a client that finds its stack."""

from pathlib import Path

import pytest

from palimpsest import AsyncClient, Client
from palimpsest.embedded import state
from palimpsest.errors import NotFound, Unavailable
from tests.integration.client.twins import Twin
from tests.integration.conftest import Served


@pytest.fixture
async def model(twin: Twin, tiny_model: Path) -> str:
    job = await twin.call(twin.client.models.register_model, model_id="easy-tiny", source=str(tiny_model))
    await twin.call(job.result, timeout=60)
    return "easy-tiny"


async def test_sampling_and_messages_may_be_given_directly(twin: Twin, model: str):
    text = twin.client.decoding.text
    turns = [{"role": "user", "content": "the"}]
    direct = await twin.call(
        text, model=model, messages=turns, temperature=1.2, top_p=0.9, seed=7, max_tokens=8
    )
    whole = await twin.call(
        text, model=model, chat=turns, sampling={"temperature": 1.2, "top_p": 0.9, "seed": 7}, max_tokens=8
    )
    assert direct == whole
    drafted = await twin.call(
        twin.client.decoding.drafts(
            model=model, prompt="the", strategy="nucleus", top_p=0.9, seed=1, k=2
        ).result
    )
    assert len(drafted) <= 2


async def test_a_list_of_prompts_is_a_list_of_texts(twin: Twin, model: str):
    text = twin.client.decoding.text
    prompts = ["the", "a quick", "fox", "the"] * 5
    texts = await twin.call(text, model=model, prompt=prompts, max_tokens=4)
    assert texts == [await twin.call(text, model=model, prompt=p, max_tokens=4) for p in prompts]
    assert await twin.call(text, model=model, prompt=[]) == []
    with pytest.raises(NotFound):
        await twin.call(text, model="nobody", prompt=prompts)


async def test_lists_iterate_over_every_page(twin: Twin, model: str):
    for content in (b"one", b"two", b"three"):
        await twin.call(twin.client.artifacts.upload, content)
    whole = await twin.call(twin.client.artifacts.list_artifacts, page_size=1000)
    wanted = {artifact.digest for artifact in whole.artifacts}
    paged = await twin.call(twin.client.artifacts.list_artifacts, page_size=2)
    assert len(paged.artifacts) == 2
    found = [artifact.digest async for artifact in twin.each(paged)]
    assert len(found) == len(set(found))
    assert wanted <= set(found)
    jobs = await twin.call(twin.client.jobs.list, page_size=1)
    assert len([job.name async for job in twin.each(jobs)]) >= 1
    assert "<table>" in whole._repr_html_()


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("SERVER", "TOKEN", "TLS"):
        monkeypatch.delenv(f"PALIMPSEST_{name}", raising=False)
    monkeypatch.setenv("PALIMPSEST_STATE_DIR", str(tmp_path / "none"))


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_client_without_an_address_says_how_to_get_one(kind, bare):
    with pytest.raises(Unavailable, match=r"palimpsest up.*Client\.local\(\)"):
        kind()


def test_a_client_without_an_address_finds_the_stack_of_this_machine(stack: Served, bare, monkeypatch):
    if stack.state_dir is None:
        pytest.skip("the stack is not this machine's")
    monkeypatch.setenv("PALIMPSEST_STATE_DIR", str(stack.state_dir))
    assert state.running(stack.state_dir) is not None
    with Client() as client:
        assert client.target == stack.target
        assert client.models.list_models() is not None


def test_a_client_without_an_address_takes_the_environments(stack: Served, bare, monkeypatch):
    monkeypatch.setenv("PALIMPSEST_SERVER", stack.target)
    monkeypatch.setenv("PALIMPSEST_TOKEN", stack.token or "")
    with Client() as client:
        assert client.target == stack.target
        assert client.jobs.list() is not None
