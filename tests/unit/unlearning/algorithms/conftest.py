"""A llama of a few thousand weights in float64, another one near it, and sets of random sequences."""

import copy
import random

import pytest
import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from palimpsest.training.batches import Example
from services.unlearning.algorithms import Inputs
from services.unlearning.algorithms.reference import frozen_copy

VOCABULARY = 29


class ExactRMSNorm(torch.nn.Module):
    """transformers' own computes in float32, whatever the model is in."""

    def __init__(self, norm):
        super().__init__()
        self.weight, self.epsilon = norm.weight, norm.variance_epsilon

    def forward(self, states):
        return self.weight * states * torch.rsqrt(states.square().mean(-1, keepdim=True) + self.epsilon)


def tiny(seed=0, layers=3, tied=True):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
        initializer_range=0.4,
        bos_token_id=None,
        eos_token_id=None,
    )
    module = LlamaForCausalLM(config).double().eval()
    for block in module.model.layers:
        block.input_layernorm = ExactRMSNorm(block.input_layernorm)
        block.post_attention_layernorm = ExactRMSNorm(block.post_attention_layernorm)
    module.model.norm = ExactRMSNorm(module.model.norm)
    return module


def near(module, seed=1, scale=0.05):
    """Return a copy with every weight moved a little."""
    moved = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in moved.parameters():
            weight.add_(scale * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
    return moved


def sequences(count, seed, name, prompt=1, longest=9):
    """Random sequences of several lengths; the first ``prompt`` tokens, or a few more, do not count."""
    draw = random.Random(seed)
    found = []
    for number in range(count):
        ids = tuple(draw.randrange(1, VOCABULARY) for _ in range(draw.randint(prompt + 2, longest)))
        first = draw.randint(prompt, prompt + 1)
        found.append(Example(ids, tuple(at >= first for at in range(len(ids))), f"{name}-{number}"))
    return found


FORGET = sequences(5, 11, "forget", prompt=2)
RETAIN = sequences(4, 12, "retain")


def others(example, count, seed):
    """Other answers to an example's prompt."""
    draw = random.Random(f"{example.name}/{seed}")
    first = example.counted.index(True)
    found = []
    for _ in range(count):
        answer = tuple(draw.randrange(1, VOCABULARY) for _ in range(draw.randint(1, 4)))
        found.append(
            Example(example.ids[:first] + answer, (False,) * first + (True,) * len(answer), example.name)
        )
    return found


ALTERNATIVES = [others(example, 1 + place % 3, 13) for place, example in enumerate(FORGET)]


@pytest.fixture(scope="session")
def before():
    """The model before the request."""
    return frozen_copy(tiny())


@pytest.fixture
def now(before):
    """The model some steps into a run."""
    return near(before).requires_grad_(True)


@pytest.fixture
def inputs(before):
    return Inputs(before, FORGET, RETAIN, ALTERNATIVES, before, batch=2, seed=3, pad=0)


@pytest.fixture(scope="session")
def memorised():
    """A model that knows both sets by heart."""
    module = tiny(seed=5).requires_grad_(True)
    inputs = Inputs(module, FORGET, RETAIN, batch=8)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
    for step in range(80):
        optimizer.zero_grad()
        loss = mean(module, inputs.forget_batch(step)) + mean(module, inputs.retain_batch(step))
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5
    return frozen_copy(module)


def mean(module, batch):
    """torch's own cross-entropy of transformers' own logits."""
    labels = batch.ids.masked_fill(~batch.counted, -100)[:, 1:]
    logits = module(input_ids=batch.ids, attention_mask=batch.attention).logits[:, :-1]
    return functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
