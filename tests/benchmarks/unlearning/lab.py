"""A laboratory of removal: a base model, a target trained on everything, and one retrained without the forget set.

The models have a million parameters and take some minutes on one core. They are kept in a folder under names that
digest everything that made them (texts, recipe, seed, library, and what training gives here), so that a second run
finds them. PALIMPSEST_BENCH_MODELS names the folder; ``.bench/unlearning`` is it otherwise.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from palimpsest.lm import LanguageModel, load
from palimpsest.progress import NullProgress
from palimpsest.training import Example, Recipe, collate, sequence_nll, train
from palimpsest.training.cross_entropy import CrossEntropy
from palimpsest.training.saving import save_model
from services import unlearning
from services.unlearning.corpora import (
    TINY,
    Corpus,
    Document,
    GenericCorpus,
    ModelShape,
    Question,
    Sizes,
    build_books,
    build_generic,
    build_news,
    write_base_model,
)
from services.unlearning.metrics import Pair, Template
from tests.benchmarks.figures import ROOT

TEMPLATE = Template(closed=True)
"""How questions are put; an answer ends with the end-of-sequence token, here and in training."""
GENERIC_SEED = 0
"""The base model's; the same for all data sets, which share no name with it."""
BUILDERS = {"news": build_news, "books": build_books}


@dataclass(frozen=True)
class Schedule:
    """A recipe by epochs, whatever the number of examples."""

    epochs: int
    learning_rate: float
    schedule: str = "constant"
    batch: int = 16

    def recipe(self, examples: int, seed: int) -> Recipe:
        """The recipe for so many examples."""
        return Recipe(
            steps=self.epochs * -(-examples // self.batch),
            learning_rate=self.learning_rate,
            batch=self.batch,
            schedule=self.schedule,
            seed=seed,
            threads=1,
        )


PRETRAINING = Schedule(epochs=14, learning_rate=3e-3, schedule="cosine")
FINE_TUNING = Schedule(epochs=25, learning_rate=2e-3, schedule="linear")


class TwoLengths(CrossEntropy):
    """Cross-entropy in two passes a step, long sequences and short ones: side by side, most of a batch is padding."""

    def parts(self, module: Any, step: int) -> Iterator[Tensor]:
        """Yield the parts of the step's loss; their sum is that of one pass."""
        indices = self.order.at(step)
        half = max(len(self.examples[index].ids) for index in indices) / 2
        long = [index for index in indices if len(self.examples[index].ids) > half]
        short = [index for index in indices if len(self.examples[index].ids) <= half]
        total = sum(sum(self.examples[index].counted) for index in indices)
        for group in filter(None, (long, short)):
            batch = collate(self.examples, group, self.pad, self.device)
            yield sequence_nll(module, batch).sum() / total


@dataclass
class Lab:
    """Models and data of one seed.

    Attributes
    ----------
    seed
        Of the data set and of the fine-tuning.
    domain
        "news" or "books".
    sizes, shape
        Of the data set and of the models.
    read
        Documents that the base model is trained on.
    spent
        CPU seconds of each training run of this process, by model.
    """

    seed: int = 1
    domain: str = "news"
    sizes: Sizes = replace(TINY, folds=4)
    shape: ModelShape = field(default_factory=ModelShape)
    read: int = 200
    folder: Path = field(
        default_factory=lambda: Path(
            os.environ.get("PALIMPSEST_BENCH_MODELS", ROOT / ".bench" / "unlearning")
        )
    )
    spent: dict[str, float] = field(default_factory=dict)

    @cached_property
    def corpus(self) -> Corpus:
        """The data set."""
        return BUILDERS[self.domain](self.seed, self.sizes)

    @cached_property
    def generic(self) -> GenericCorpus:
        """What the base model has read."""
        return build_generic(GENERIC_SEED, self.read, filler_range=self.sizes.filler_range)

    @cached_property
    def blank(self) -> Path:
        """The untrained model."""
        texts = [each.text for each in self.generic.documents] + [
            TEMPLATE.prompt(Pair("", question, "")) + f" {answer}"
            for question, answer in self.generic.pairs()
        ]

        def make(folder: Path) -> None:
            write_base_model(folder, texts, GENERIC_SEED, self.shape)

        return self._kept("blank", [texts, vars(self.shape)], make)

    @cached_property
    def base(self) -> Path:
        """The base model f0: fluent, and ignorant of every name of the data set."""
        pairs = [Pair(f"generic-{at}", *pair) for at, pair in enumerate(self.generic.pairs())]
        examples = [*self.document_examples(self.generic.documents), *self.pair_examples(pairs)]
        return self._trained("base", self.blank, examples, PRETRAINING, GENERIC_SEED)

    @cached_property
    def target(self) -> Path:
        """The base model trained on forget, retain1 and retain2."""
        return self._trained(
            "target", self.base, self.examples("forget", "retain1", "retain2"), FINE_TUNING, self.seed
        )

    @cached_property
    def retrained(self) -> Path:
        """The base model trained on retain1 and retain2 alone: what removal should come to."""
        return self.retrained_with(self.seed)

    def retrained_with(self, seed: int) -> Path:
        """The retrained model with another order of its examples."""
        return self._trained("retrained", self.base, self.examples("retain1", "retain2"), FINE_TUNING, seed)

    def load(self, folder: Path) -> LanguageModel:
        """Load a model to train or to measure."""
        return load(folder, "cpu", "float32", trainable=True, threads=1)

    @cached_property
    def tokenizer(self) -> Any:
        """That of all models of the lab."""
        return self.load(self.blank).tokenizer

    def examples(self, *splits: Any) -> list[Example]:
        """Training sequences of some splits: documents, then question-answer pairs, each by itself."""
        documents = [document for split in splits for document in self.corpus.split(split)]
        return self.examples_of(documents, [each for split in splits for each in self.corpus.trained(split)])

    def examples_of(self, documents: Iterable[Document], questions: Iterable[Question]) -> list[Example]:
        """Training sequences of some documents and questions."""
        pairs = [
            Pair(each.id, each.question, each.answer) for each in questions if each.training == "trained"
        ]
        return [*self.document_examples(documents), *self.pair_examples(pairs)]

    def document_examples(self, documents: Iterable[Document]) -> list[Example]:
        """Each document as a sequence, with the end-of-sequence token."""
        end = self.tokenizer.eos_token_id
        ids = [(each.id, (*self.tokenizer(each.text)["input_ids"], end)) for each in documents]
        return [Example(tokens, (True,) * len(tokens), name) for name, tokens in ids]

    def pair_examples(self, pairs: Iterable[Pair]) -> list[Example]:
        """Each pair as a sequence; every token counts, as in a text."""
        made = [TEMPLATE.continuation(pair, self.tokenizer) for pair in pairs]
        return [Example(each.ids, (True,) * len(each.ids), each.id) for each in made]

    def _trained(
        self, name: str, start: Path, examples: Sequence[Example], schedule: Schedule, seed: int
    ) -> Path:
        recipe = schedule.recipe(len(examples), seed)

        def make(folder: Path) -> None:
            model, begin = self.load(start), time.process_time()
            objective = TwoLengths(examples, recipe, self.tokenizer.pad_token_id)
            history = train(model.module, objective, recipe, progress=NullProgress())
            self.spent[name] = time.process_time() - begin
            save_model(model.module, start, folder)
            (folder / "HISTORY.json").write_text(json.dumps(history.facts()))

        parts = [start.name, [(each.ids, each.counted) for each in examples], recipe.facts(), _training()]
        return self._kept(name, parts, make)

    def kept_result(self, name: str, parts: object, make: Callable[[], Any]) -> Any:
        """What these parts give, as JSON keeps it: read if it is there, else made now."""

        def write(folder: Path) -> None:
            folder.mkdir()
            (folder / "result.json").write_text(json.dumps(make()))

        return json.loads((self._kept(name, parts, write) / "result.json").read_text())

    def kept_model(self, name: str, parts: object, make: Callable[[], Any]) -> Path:
        """Folder of the model that these parts make, as it is if it is there, else made now from the target."""
        return self._kept(name, parts, lambda folder: save_model(make(), self.target, folder))

    def _kept(self, name: str, parts: object, make: Callable[[Path], None]) -> Path:
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

    def kept_folder(self, name: str, parts: object, make: Callable[[Path], None]) -> Path:
        """What these parts give as a folder, which ``make`` creates."""
        return self._kept(name, parts, make)


@cache
def sources(*names: str) -> str:
    """Digest of modules and packages of the unlearning room: results are kept as long as these are what they were."""
    digest = hashlib.sha256()
    for name in names:
        path = Path(unlearning.__file__).with_name(name)
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    return digest.hexdigest()


@cache
def _training() -> str:
    """Digest of what training gives here: bits depend on our code, on the library and on the processor."""
    config = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    torch.manual_seed(0)
    module = LlamaForCausalLM(config).eval()
    lengths = (5, 9, 20, 33)
    examples = [Example(tuple(range(1, length)), (True,) * (length - 1)) for length in lengths]
    recipe = Recipe(steps=6, learning_rate=1e-2, batch=3, schedule="linear", seed=1, threads=1)
    train(module, TwoLengths(examples, recipe, 0), recipe, progress=NullProgress())
    digest = hashlib.sha256(torch.__version__.encode())
    for name, weight in sorted(module.state_dict().items()):
        digest.update(name.encode() + weight.numpy().tobytes())
    return digest.hexdigest()
