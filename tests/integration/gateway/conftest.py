"""The stack's gateway as OpenAI's own client sees it, with a tiny model behind it."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import openai
import pytest
from transformers import AutoTokenizer

from palimpsest import AsyncClient, Client
from tests.integration.conftest import Served

TINY = "gateway-tiny"


@pytest.fixture(scope="session")
def tiny(stack: Served, tiny_model: Path) -> str:
    """The id of the tiny model, registered."""
    with Client(stack.target, token=stack.token) as client:
        client.models.register_model(model_id=TINY, source=str(tiny_model)).result(timeout=120)
    return TINY


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_model: Path):
    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture
def ask(stack: Served) -> Iterator[openai.OpenAI]:
    """OpenAI's client, which does not try again: what is refused is to be seen."""
    with openai.OpenAI(
        base_url=f"{stack.gateway}/v1", api_key=stack.token or "none", max_retries=0, timeout=120
    ) as client:
        yield client


@pytest.fixture
def http(stack: Served) -> Iterator[httpx.Client]:
    """Plain HTTP, for what that client would not send."""
    headers = {"authorization": f"Bearer {stack.token}"} if stack.token else {}
    with httpx.Client(base_url=stack.gateway, headers=headers, timeout=120) as client:
        yield client


@pytest.fixture
async def grpc(stack: Served) -> AsyncIterator[AsyncClient]:
    """The same rooms without the gateway."""
    async with AsyncClient(stack.target, token=stack.token) as client:
        yield client


@pytest.fixture(scope="session")
def with_tools(stack: Served, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The id of a tiny model whose chat template knows tools, and the roles developer and tool."""
    folder = tmp_path_factory.mktemp("tiny-tools") / "model"
    shutil.copytree(tiny_model, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = (
        "{% if tools %}<|im_start|>system\nTools:\n{% for t in tools %}{{ t | tojson }}\n{% endfor %}"
        'Answer with <tool_call>{"name": ..., "arguments": ...}</tool_call><|im_end|>\n{% endif %}'
        "{% for m in messages %}"
        "{% if m['role'] == 'tool' %}<|im_start|>tool\n{{ m['content'] }}<|im_end|>\n"
        "{% elif m['role'] == 'developer' %}<|im_start|>developer\n{{ m['content'] }}<|im_end|>\n"
        "{% else %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
        "{% for c in m['tool_calls'] or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}"
        "<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokenizer.save_pretrained(folder)
    for shown in (folder, folder.parent):  # servers in containers are other users
        shown.chmod(0o755)
    for file in folder.iterdir():
        file.chmod(0o644)
    with Client(stack.target, token=stack.token) as client:
        client.models.register_model(model_id="gateway-tools", source=str(folder)).result(timeout=120)
    return "gateway-tools"
