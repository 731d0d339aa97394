"""What a prompt's tokens are worth, against the model run directly, in float32: a stack may run another."""

import math
from collections.abc import AsyncIterator

import openai
import pytest
import torch
from transformers import AutoModelForCausalLM

from services.decoding import DecodingRoom
from services.registry import RegistryRoom
from tests.gateways import gateway_over
from tests.rooms import room_settings, serving, worker_resources

PROMPT = "the quick brown fox"


@pytest.fixture(scope="module")
async def ask(valkey, tiny_model, tmp_path_factory) -> AsyncIterator[openai.AsyncOpenAI]:
    settings = room_settings(valkey, tmp_path_factory.mktemp("exact"))
    worker_resources(settings, tiny=tiny_model)
    async with serving(settings, RegistryRoom(), DecodingRoom()) as server:
        with gateway_over(settings.model_copy(update={"listen": f"127.0.0.1:{server.port}"})) as url:
            async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
                yield client


@pytest.fixture(scope="module")
def reference(tiny_model):
    """Log-probabilities of every next token after each position of some ids: [positions, vocabulary]."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()

    def logprobs(ids):
        with torch.inference_mode():
            return torch.log_softmax(model(torch.tensor([ids])).logits[0].float(), -1)

    return logprobs


async def test_an_echo_without_generation_scores_the_prompt(ask, tiny_tokenizer, reference):
    ids = tiny_tokenizer(PROMPT).input_ids
    wanted = reference(ids)
    for prompt in (PROMPT, ids):
        made = await ask.completions.create(
            model="tiny", prompt=prompt, temperature=0, max_tokens=0, echo=True, logprobs=3
        )
        (choice,) = made.choices
        lists = choice.logprobs
        assert choice.text == PROMPT
        assert made.usage.completion_tokens == 0
        assert made.usage.prompt_tokens == len(ids) == len(lists.tokens)
        assert lists.token_logprobs[0] is None
        assert lists.top_logprobs[0] is None
        for at, token in enumerate(ids[1:], 1):
            assert math.isclose(
                lists.token_logprobs[at], wanted[at - 1, token].item(), rel_tol=1e-4, abs_tol=1e-4
            )
            best = max(lists.top_logprobs[at].values())
            assert math.isclose(best, wanted[at - 1].max().item(), rel_tol=1e-4, abs_tol=1e-4)
            assert lists.tokens[at] in lists.top_logprobs[at]
        assert [PROMPT[at : at + len(t)] for at, t in zip(lists.text_offset, lists.tokens, strict=True)] == (
            lists.tokens
        )


async def test_an_echo_with_one_token_is_scored_as_the_harness_asks(ask, tiny_tokenizer, reference):
    """The harness drops the first ctxlen and the last probability: the last has to be the generated one."""
    batch = [tiny_tokenizer(text).input_ids for text in (PROMPT, "the lazy dog jumps", "a")]
    made = await ask.completions.create(
        model="tiny",
        prompt=batch,
        temperature=0,
        max_tokens=1,
        logprobs=1,
        seed=1234,
        extra_body={"echo": True},
    )
    for ids, choice in zip(batch, made.choices, strict=True):
        wanted, lists = reference(ids), choice.logprobs
        assert len(lists.token_logprobs) == len(ids) + 1
        for at, token in enumerate(ids[1:], 1):
            assert math.isclose(lists.token_logprobs[at], wanted[at - 1, token].item(), abs_tol=1e-4)
        assert math.isclose(lists.token_logprobs[-1], wanted[-1].max().item(), abs_tol=1e-4)
