"""The other rank of the runs in ``test_ranks``: a process that takes part in one run after another.

It reads a JSON object a line, ``{"folder", "size", "rank", "run"}``, and answers each with one.
"""

import hashlib
import json
import os
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from palimpsest.progress import NullProgress
from palimpsest.training import Example, LoraSettings, Recipe, train
from palimpsest.training.cross_entropy import CrossEntropy
from palimpsest.training.ranks import joined

CPU = torch.device("cpu")
RECIPE: dict[str, Any] = {
    "steps": 7,
    "learning_rate": 3e-3,
    "batch": 5,  # of eleven: the last step of an epoch has one, and a rank has none
    "micro_batch": 2,
    "seed": 5,
    "weight_decay": 0.1,
    "clip": 0.5,
    "schedule": "cosine",
    "warmup_steps": 2,
}


@dataclass(frozen=True)
class Run:
    """What is trained, and what goes wrong on this rank at step 3."""

    dtype: str = "float64"
    adapter: bool = False
    recipe: dict[str, Any] = field(default_factory=dict)
    fault: str = ""

    def recipe_for(self, ranks: int) -> Recipe:
        adapter = LoraSettings(rank=2) if self.adapter else None
        return Recipe(**{**RECIPE, "adapter": adapter, "ranks": ranks, **self.recipe})


class Faulty(CrossEntropy):
    """Fails, dies, or trains on what is another rank's, at step 3."""

    def __init__(self, fault: str, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.fault = fault

    def shares(self, module: Any, step: int, rank: int, size: int) -> Iterator[Any]:
        if step == 3 and self.fault == "raises":
            raise ValueError("a fault of this rank")
        if step == 3 and self.fault == "dies":
            os._exit(3)
        if step == 3 and self.fault == "greedy":
            rank, size = 0, 1
        yield from super().shares(module, step, rank, size)


def model(dtype: str = "float64") -> Any:
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=48,
        initializer_range=0.2,
        tie_word_embeddings=True,
    )
    return transformers.LlamaForCausalLM(config).to(getattr(torch, dtype)).eval()


def examples() -> list[Example]:
    """Eleven sequences of 2 to 12 tokens, of which some do not count."""
    dice = random.Random(7)
    made = []
    for number in range(11):
        length = 2 + number
        counted = [dice.random() < 0.7 for _ in range(length - 1)] + [True]
        made.append(Example(tuple(dice.randrange(48) for _ in range(length)), tuple(counted), f"e{number}"))
    return made


def objective(run: Run, ranks: int) -> CrossEntropy:
    return Faulty(run.fault, examples(), run.recipe_for(ranks), 0)


def digest_of(module: torch.nn.Module) -> str:
    """SHA-256 of all weights."""
    digest = hashlib.sha256()
    for name, weight in module.named_parameters():
        digest.update(name.encode() + weight.detach().numpy().tobytes())
    return digest.hexdigest()


def take_part(run: Run, folder: Path, rank: int, size: int) -> dict[str, Any]:
    """Run to the end, and tell how it went."""
    module = model(run.dtype)
    try:
        with joined(folder, rank, size, CPU) as ranks:
            history = train(
                module, objective(run, size), run.recipe_for(size), progress=NullProgress(), ranks=ranks
            )
    except Exception as error:
        return {"error": type(error).__name__, "weights": digest_of(module)}
    return {"history": history.facts(), "weights": digest_of(module)}


def main() -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        asked = json.loads(line)
        told = take_part(Run(**asked["run"]), Path(asked["folder"]), asked["rank"], asked["size"])
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
