"""The two models that are trained, and ragged examples for them.

Both have random weights: what a step costs does not depend on their values.
"""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from palimpsest.training import Example
from services.unlearning.corpora import build_generic, write_base_model

SEED = 5


def small(folder: Path) -> Any:
    """The million parameters that removals are measured on, with a vocabulary of a thousand tokens."""
    texts = [each.text for each in build_generic(SEED, 60).documents]
    write_base_model(folder / "small", texts, SEED)
    return AutoModelForCausalLM.from_pretrained(folder / "small").eval()


def wide(layers: int = 2) -> Any:
    """SmolLM2-135M's width and vocabulary of 49 thousand tokens, with few of its 30 layers."""
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=layers,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return LlamaForCausalLM(config).eval()


MODELS: dict[str, Callable[[Path], Any]] = {"1 M": small, "49k vocabulary": lambda _: wide()}


def ragged(count: int, longest: int, vocabulary: int, seed: int = SEED) -> list[Example]:
    """Sequences of a quarter to all of ``longest`` tokens; in every second one the first third does not count."""
    dice = random.Random(seed)
    made = []
    for number in range(count):
        length = dice.randint(longest // 4, longest)
        prompt = length // 3 if number % 2 else 1
        ids = tuple(dice.randrange(2, vocabulary) for _ in range(length))
        made.append(Example(ids, (False,) * prompt + (True,) * (length - prompt), f"e{number}"))
    return made


def padding(examples: Sequence[Example], batches: Sequence[Sequence[int]]) -> float:
    """Share of the positions of padded batches that hold no token."""
    tokens = sum(len(examples[index].ids) for batch in batches for index in batch)
    places = sum(len(batch) * max(len(examples[index].ids) for index in batch) for batch in batches)
    return 1 - tokens / places
