import random

import pytest
import torch
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

from palimpsest.errors import InvalidArgument
from palimpsest.progress import NullProgress
from services.unlearning.metrics.generation import eos_ids_of, greedy

RNG = random.Random(5)
PROMPTS = [[RNG.randrange(300) for _ in range(RNG.randint(1, 30))] for _ in range(12)]


def test_batched_is_one_by_one_is_transformers_generate(module):
    together = greedy(module, PROMPTS, max_new_tokens=20, eos_ids=[0], batch=5)
    alone = [greedy(module, [prompt], max_new_tokens=20, eos_ids=[0])[0] for prompt in PROMPTS]
    assert together == alone
    config = GenerationConfig(do_sample=False, max_new_tokens=20, pad_token_id=0, eos_token_id=0)
    for prompt, new in zip(PROMPTS, together, strict=True):
        ids = torch.tensor([prompt])
        expected = module.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
        assert list(new) == [token for token in expected[0, len(prompt) :].tolist() if token]
    assert len(set(together)) > 6


def test_a_model_with_learnt_positions_is_continued_from_position_zero():
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=320, n_positions=64, n_embd=32, n_layer=2, n_head=2, initializer_range=0.5)
    gpt2 = GPT2LMHeadModel(config).eval()
    together = greedy(gpt2, PROMPTS, max_new_tokens=8, eos_ids=[])
    assert together == [greedy(gpt2, [prompt], max_new_tokens=8, eos_ids=[])[0] for prompt in PROMPTS]


def test_a_continuation_ends_before_its_end_token_and_others_go_on(module):
    free = greedy(module, PROMPTS, max_new_tokens=20, eos_ids=[])
    assert all(len(new) == 20 for new in free)
    end = free[0][3]
    stopped = greedy(module, PROMPTS, max_new_tokens=20, eos_ids=[end])
    for new, all_new in zip(stopped, free, strict=True):
        assert new == (all_new[: all_new.index(end)] if end in all_new else all_new)
    assert len({len(new) for new in stopped}) > 1


def test_what_the_generation_config_says_is_of_no_account(module):
    before = greedy(module, PROMPTS, max_new_tokens=10, eos_ids=[])
    kept = module.generation_config
    module.generation_config = GenerationConfig(repetition_penalty=5.0, no_repeat_ngram_size=1)
    try:
        assert greedy(module, PROMPTS, max_new_tokens=10, eos_ids=[]) == before
    finally:
        module.generation_config = kept


def test_end_tokens_are_the_models_and_the_tokenizers(module, tokenizer):
    kept = module.generation_config.eos_token_id
    module.generation_config.eos_token_id = [7, 5]
    try:
        assert eos_ids_of(module, tokenizer) == [0, 5, 7]
    finally:
        module.generation_config.eos_token_id = kept


def test_empty_and_too_long_prompts_are_refused(module):
    with pytest.raises(InvalidArgument, match="PROMPT_EMPTY"):
        greedy(module, [[1], []], max_new_tokens=1, eos_ids=[])
    with pytest.raises(InvalidArgument, match="PROMPT_TOO_LONG"):
        greedy(module, [[1] * 2000], max_new_tokens=49, eos_ids=[])


class Stop(Exception):
    pass


class Stopping(NullProgress):
    def check(self) -> None:
        raise Stop


def test_a_cancelled_job_ends_at_the_next_pass(module):
    with pytest.raises(Stop):
        greedy(module, PROMPTS, max_new_tokens=1, eos_ids=[], progress=Stopping())
