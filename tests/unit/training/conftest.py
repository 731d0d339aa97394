"""Small models and sets of examples to train on."""

import random
from pathlib import Path

import pytest
import torch
import transformers
from transformers import AutoTokenizer

from palimpsest.training import Example


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer(tiny_model: Path):
    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture
def make_model():
    """A llama of 9 thousand weights, the same one every time."""

    def make(dtype=torch.float32, **changes):
        torch.manual_seed(3)
        config = transformers.LlamaConfig(
            **{
                "hidden_size": 16,
                "intermediate_size": 24,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "vocab_size": 48,
                "initializer_range": 0.2,
                "tie_word_embeddings": True,
                **changes,
            }
        )
        return transformers.LlamaForCausalLM(config).to(dtype).eval()

    return make


@pytest.fixture(scope="session")
def examples():
    """Eleven sequences of 2 to 12 tokens, of which some do not count."""
    dice = random.Random(7)
    made = []
    for number in range(11):
        length = 2 + number
        counted = [dice.random() < 0.7 for _ in range(length - 1)] + [True]
        ids = tuple(dice.randrange(48) for _ in range(length))
        made.append(Example(ids, tuple(counted), f"e{number}"))
    return made
