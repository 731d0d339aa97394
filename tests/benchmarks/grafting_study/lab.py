"""The study's models: the sample model, and for each seed one that was fine-tuned on invented facts.

They are kept in a folder under names that digest what made them (texts, recipe, base, library), so that a second run
finds them and a run that was stopped goes on. PALIMPSEST_BENCH_MODELS names the folder; ``.bench/grafting_study`` is it
otherwise. A model in float32 takes half a gigabyte.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from palimpsest.lm import load
from palimpsest.progress import NullProgress
from palimpsest.training import Example, Recipe, train
from palimpsest.training.reading import text_sequence
from palimpsest.training.saving import save_model
from services.grafting.engine import Grafter, ModelWeights, architecture_of
from services.grafting.facts import FactSet, build_facts
from services.grafting.pairs import Facts
from tests.benchmarks.decode import sample_model
from tests.benchmarks.figures import ROOT
from tests.benchmarks.unlearning.lab import TwoLengths

FACTS, EPOCHS, BATCH, RATE = 16, 12, 16, 1e-4


@dataclass
class Lab:
    """The sample model and its fine-tuned copies.

    Attributes
    ----------
    facts, epochs
        Facts of a seed, and passes over the texts that tell them.
    folder
        Where models are kept.
    spent
        CPU seconds of each training run of this process, by seed.
    """

    facts: int = FACTS
    epochs: int = EPOCHS
    folder: Path = field(
        default_factory=lambda: Path(
            os.environ.get("PALIMPSEST_BENCH_MODELS", ROOT / ".bench" / "grafting_study")
        )
    )
    spent: dict[int, float] = field(default_factory=dict)

    @cached_property
    def base_folder(self) -> Path:
        """Where the sample model is."""
        return sample_model()

    @cached_property
    def base(self) -> Any:
        """The sample model."""
        return self.load(self.base_folder)

    @cached_property
    def tokenizer(self) -> Any:
        """That of all models."""
        return self._loaded.tokenizer

    @cached_property
    def _loaded(self) -> Any:
        return load(self.base_folder, "cpu", "float32", trainable=True, threads=1)

    def load(self, folder: Path) -> Any:
        """Load a model as transformers' own module, in float32."""
        return load(folder, "cpu", "float32", trainable=True, threads=1).module

    def set_of(self, seed: int) -> FactSet:
        """Facts of a seed, told and asked in one direction."""
        return build_facts(seed, self.facts, ("forward",))

    def tuned(self, seed: int) -> Path:
        """The sample model fine-tuned on a seed's texts: next-token loss on every token."""
        sequences = [(each.id, text_sequence(self.tokenizer, each.text)) for each in self.set_of(seed).texts]
        examples = [Example(tuple(ids), tuple(counted), name) for name, (ids, counted) in sequences]
        steps = self.epochs * -(-len(examples) // BATCH)
        recipe = Recipe(steps=steps, learning_rate=RATE, batch=BATCH, seed=seed, threads=1)

        def make(folder: Path) -> None:
            module, begin = self.load(self.base_folder), time.process_time()
            objective = TwoLengths(examples, recipe, self.tokenizer.pad_token_id)
            with bfloat16_products():
                history = train(module, objective, recipe, progress=NullProgress())
            self.spent[seed] = time.process_time() - begin
            save_model(module, self.base_folder, folder)
            (folder / "HISTORY.json").write_text(json.dumps(history.facts()))

        texts = [each.ids for each in examples]
        parts = [self.base_folder.name, texts, recipe.facts(), torch.__version__]
        return self.kept(f"tuned-{seed}", parts, make)

    def kept(self, name: str, parts: object, make: Callable[[Path], None]) -> Path:
        """The folder that these parts make: as it is if it is there, else made now, whole or not at all."""
        digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
        folder = self.folder / f"{name}-{digest}"
        if not folder.is_dir():
            partial = folder.with_name(f".{folder.name}.{os.getpid()}")
            shutil.rmtree(partial, ignore_errors=True)
            partial.parent.mkdir(parents=True, exist_ok=True)
            make(partial)
            partial.rename(folder)
        return folder

    def kept_result(self, name: str, parts: object, make: Callable[[], Any]) -> Any:
        """What these parts give, as JSON keeps it: read if it is there, else made now."""

        def write(folder: Path) -> None:
            folder.mkdir()
            (folder / "result.json").write_text(json.dumps(make()))

        return json.loads((self.kept(name, parts, write) / "result.json").read_text())


def sources(*modules: ModuleType) -> str:
    """Digest of packages: results are kept as long as these are what they were."""
    digest = hashlib.sha256()
    for module in modules:
        path = Path(str(module.__file__))
        for file in sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]:
            digest.update(file.read_bytes())
    return digest.hexdigest()


@contextmanager
def bfloat16_products() -> Iterator[None]:
    """Let matrix products round their inputs to bfloat16 where the processor is faster so; weights, sums and the
    optimiser stay in float32. Halves the time of a training run; nothing is measured so."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def grafter_of(base: Any, donor: Any) -> Grafter:
    """Base as source 0, donor as source 1."""
    architecture = architecture_of(base)
    return Grafter([ModelWeights(each, architecture) for each in (base, donor)], architecture)


def facts_of(model: Any) -> Facts:
    """What selections are checked against."""
    architecture = architecture_of(model)
    return Facts(
        architecture.layers,
        architecture.context,
        architecture.has_gate,
        bool(model.config.tie_word_embeddings),
    )
