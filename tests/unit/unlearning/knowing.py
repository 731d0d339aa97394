"""A little world of random sequences, and tiny models that know some of them by heart."""

import copy

import numpy as np
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from palimpsest.training.batches import Example

VOCABULARY, LENGTH, TEXTS = 96, 16, 8


def texts(prefix: str, seed: int) -> list[Example]:
    """Random sequences; those of one prefix begin with different tokens, so that the first tells which it is."""
    rng = np.random.default_rng(seed)
    first = {"forget": 1, "retain": 20, "holdout": 40, "other": 60}[prefix]
    return [
        Example(
            (first + number, *rng.integers(1, VOCABULARY, LENGTH - 1).tolist()),
            (True,) * LENGTH,
            f"{prefix}-{number}",
        )
        for number in range(TEXTS)
    ]


FORGET, RETAIN, HOLDOUT, OTHER = (
    texts(prefix, seed) for seed, prefix in enumerate(("forget", "retain", "holdout", "other"))
)


def blank(seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


def ids_of(examples: list[Example]) -> torch.Tensor:
    return torch.tensor([example.ids for example in examples])


def learn(module: nn.Module, examples: list[Example], steps: int, rate: float = 3e-3) -> nn.Module:
    """Train on all of some sequences at once, by a plain loop."""
    ids = ids_of(examples)
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        module(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    return module


def made(*sets: list[Example], seed: int = 0, steps: int = 120) -> LlamaForCausalLM:
    module = blank(seed)
    learn(module, [example for each in sets for example in each], steps)
    return module


def hidden(module: nn.Module, size: float = 4.0) -> nn.Module:
    """A copy with a bias on its head, which hides what it knows and removes none of it."""
    copied = copy.deepcopy(module)
    head = copied.lm_head
    biased = nn.Linear(head.in_features, head.out_features)
    biased.weight = head.weight
    biased.bias.data = size * torch.randn(head.out_features, generator=torch.Generator().manual_seed(0))
    copied.lm_head = biased
    return copied


@torch.no_grad()
def recited(module: nn.Module, examples: list[Example]) -> np.ndarray:
    """Share of each sequence's tokens that are the likeliest given the true ones before, in points of 100."""
    ids = ids_of(examples)
    hits = module(input_ids=ids).logits[:, :-1].argmax(-1) == ids[:, 1:]
    return 100 * hits.double().mean(1).numpy()


def scores(module: nn.Module) -> dict[str, np.ndarray]:
    """Of the forget set."""
    return {"em": recited(module, FORGET)}
