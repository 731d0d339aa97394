"""A step of the loop against a step of transformers' Trainer: same weights, batches, loss and AdamW.

A run of either takes the time from the end of its first step to the end of its last one, so that neither pays for what
it does once. Times are CPU seconds of the process, which other work on the machine moves least.
"""

import copy
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.trainer import Trainer
from transformers.trainer_callback import PrinterCallback, TrainerCallback
from transformers.training_args import TrainingArguments

from palimpsest.progress import NullProgress
from palimpsest.training import Example, Recipe, collate, train
from palimpsest.training.cross_entropy import CrossEntropy
from tests.benchmarks.figures import Figures
from tests.benchmarks.training.models import MODELS, SEED, padding, ragged

ROUNDS = 5
SHAPES = {"1 M": (16, 128, 9), "49k vocabulary": (4, 192, 4)}
"""For each model: examples of a batch, tokens of the longest, steps of a run."""


class _Timed(NullProgress):
    """CPU time at the end of every step."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def step(self, done: int, total: int, stage: str = "") -> None:
        """Take the time, as the loop tells of a step once it is done."""
        self.ends.append(time.process_time())


class _Ends(TrainerCallback):
    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.ends.append(time.process_time())


class _InOrder(Trainer):
    """Takes the examples as they come: they are in the order in which the loop takes them."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        rows: Any = train_dataset or self.train_dataset
        return torch.utils.data.SequentialSampler(rows)


class _Rows(torch.utils.data.Dataset):
    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Example:
        return self.examples[index]


def steps(figures: Figures, folder: Path) -> None:
    """Gate the step time of both models."""
    for name, make in MODELS.items():
        size, longest, count = SHAPES[name]
        module = make(folder)
        recipe = Recipe(steps=count, learning_rate=1e-4, batch=size, seed=SEED, threads=1)
        examples = ragged(size * count, longest, module.config.vocab_size)
        order = CrossEntropy(examples, recipe, 0).order
        batches = [order.at(step) for step in range(count)]
        ratios, ours, theirs = [], [], []
        for number in range(ROUNDS + 1):
            ours.append(_ours(copy.deepcopy(module), examples, recipe))
            theirs.append(_theirs(copy.deepcopy(module), examples, batches, recipe, folder))
            if number:
                ratios.append(ours[-1][0] / theirs[-1][0])
        ends = max(abs(a - b) / b for a, b in zip(ours[0][1], theirs[0][1], strict=True))
        figures.gate(f"{name}: step, ours / Trainer's", "<= 1.0", statistics.median(ratios))
        figures.figure(f"{name}: rounds", ", ".join(f"{each:.3f}" for each in ratios))
        figures.figure(f"{name}: share of padding", padding(examples, batches))
        figures.figure(f"{name}: CPU ms of a step, ours", 1e3 * statistics.median(t for t, _ in ours))
        figures.figure(f"{name}: CPU ms of a step, Trainer's", 1e3 * statistics.median(t for t, _ in theirs))
        figures.gate(f"{name}: losses apart, at most (relative)", "<= 0.001", ends)


def _ours(module: Any, examples: Sequence[Example], recipe: Recipe) -> tuple[float, list[float]]:
    progress = _Timed()
    history = train(module, CrossEntropy(examples, recipe, 0), recipe, progress=progress)
    return (progress.ends[-1] - progress.ends[1]) / (recipe.steps - 1), history.losses


def _theirs(
    module: Any, examples: Sequence[Example], batches: Sequence[Sequence[int]], recipe: Recipe, folder: Path
) -> tuple[float, list[float]]:
    def pad(rows: Sequence[Example]) -> dict[str, torch.Tensor]:
        batch = collate(rows, range(len(rows)), 0)
        labels = batch.ids.masked_fill(~batch.counted, -100)
        return {"input_ids": batch.ids, "attention_mask": batch.attention, "labels": labels}

    arguments = TrainingArguments(
        str(folder / "trainer"),
        max_steps=recipe.steps,
        per_device_train_batch_size=recipe.batch,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="constant",
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.clip,
        seed=recipe.seed,
        logging_steps=1,
        logging_strategy="steps",
        save_strategy="no",
        report_to="none",
        remove_unused_columns=False,
        disable_tqdm=True,
        use_cpu=True,
    )
    ends = _Ends()
    trainer = _InOrder(
        module,
        arguments,
        data_collator=pad,
        train_dataset=_Rows([examples[index] for batch in batches for index in batch]),
        callbacks=[ends],
    )
    trainer.pop_callback(PrinterCallback)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return (ends.ends[-1] - ends.ends[0]) / (recipe.steps - 1), losses
