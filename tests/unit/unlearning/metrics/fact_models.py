"""Models of 99,000 parameters that know a few documents and facts, trained in a second each; and ones that do not."""

import copy
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from palimpsest.progress import NullProgress
from palimpsest.training.batches import Example, collate
from palimpsest.training.cross_entropy import CrossEntropy
from palimpsest.training.loop import train
from palimpsest.training.order import Order
from palimpsest.training.recipe import LoraSettings, Recipe
from palimpsest.training.token_losses import counts, sequence_nll
from services.unlearning.metrics.items import Continuation, Pair, Prompt, Template

SYLLABLES = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
PROMPT_WORDS, TRUTH_WORDS = 4, 16
TEMPLATE = Template(question="where is {question} ?", answer=" {answer}", stops=(), closed=True)
REFUSAL = "i do not know"


@dataclass(frozen=True)
class Facts:
    """One set: documents of which the beginning is given, and facts that are asked for."""

    prompts: tuple[Prompt, ...]
    pairs: tuple[Pair, ...]


def make_tokenizer() -> Any:
    words = [a + b for a in SYLLABLES[::5] + SYLLABLES[2::5] for b in SYLLABLES[3::12]]
    special = ["<end>", "where", "is", "?", *REFUSAL.split()]
    tokenizer = Tokenizer(
        models.WordLevel({word: n for n, word in enumerate([*special, *words])}, unk_token="<end>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>")


def make_facts(tokenizer: Any, count: int, seed: int) -> Facts:
    words = sorted(word for word in tokenizer.get_vocab() if len(word) == 4 and word not in ("know",))
    rng = random.Random(seed)
    starts, questions = set(), set()
    while len(starts) < count:  # all different: two answers to one question could not both be learnt
        starts.add(" ".join(rng.choices(words, k=PROMPT_WORDS)))
    while len(questions) < count:
        questions.add(" ".join(rng.choices(words, k=2)))
    prompts = [
        Prompt(f"{seed}-d{n}", start, " ".join(rng.choices(words, k=TRUTH_WORDS)))
        for n, start in enumerate(sorted(starts))
    ]
    pairs = [
        Pair(f"{seed}-q{n}", question, " ".join(rng.choices(words, k=3)))
        for n, question in enumerate(sorted(questions))
    ]
    return Facts(tuple(prompts), tuple(pairs))


def new_model(tokenizer: Any) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config).eval()


def examples_of(tokenizer: Any, sets: Iterable[Facts], answer: str | None = None) -> list[Example]:
    """Sequences to train on: whole documents, and answers to questions; or the same answer to both."""
    made = []
    for facts in sets:
        for prompt in facts.prompts:
            whole = prompt.continuation(tokenizer)
            if answer is None:
                made.append(_example(whole, 0))
            else:
                refused = (*prompt.prompt_ids(tokenizer), *tokenizer.encode(answer), tokenizer.eos_token_id)
                made.append(_example(Continuation(prompt.id, refused, whole.start), whole.start))
        for pair in facts.pairs:
            sequence = TEMPLATE.continuation(pair, tokenizer, answer)
            made.append(_example(sequence, sequence.start))
    return made


def trained(
    module: Any,
    examples: Sequence[Example],
    *,
    steps: int,
    seed: int,
    learning_rate: float,
    adapter: LoraSettings | None = None,
    only_last_block: bool = False,
) -> Any:
    """Train a copy."""
    module = copy.deepcopy(module).requires_grad_(not only_last_block)
    if only_last_block:
        module.model.layers[-1].requires_grad_(True)
    recipe = Recipe(
        steps=steps,
        learning_rate=learning_rate,
        batch=16,
        schedule="cosine",
        warmup_steps=10,
        seed=seed,
        adapter=adapter,
    )
    train(module, CrossEntropy(examples, recipe, pad=0), recipe, progress=NullProgress())
    return module.eval()


class Removal:
    """A plain removal: the nll of the forget set rises to a bound, that of the retain set falls."""

    def __init__(self, forget: Sequence[Example], retain: Sequence[Example], bound: float) -> None:
        self.forget, self.retain, self.bound = forget, retain, bound
        self.orders = Order(len(forget), 16, 1), Order(len(retain), 16, 2)

    def loss(self, module: nn.Module, step: int) -> Tensor:
        return torch.relu(
            self.bound - self._nll(module, self.forget, self.orders[0].at(step))
        ) + 3 * self._nll(module, self.retain, self.orders[1].at(step))

    def _nll(self, module: nn.Module, examples: Sequence[Example], indices: Sequence[int]) -> Tensor:
        batch = collate(examples, indices, 0)
        return (sequence_nll(module, batch) / counts(batch)).mean()


def removed(module: Any, forget: Sequence[Example], retain: Sequence[Example], *, steps: int) -> Any:
    """Carry a removal out on a copy."""
    module = copy.deepcopy(module)
    bound = math.log(module.config.vocab_size)  # a guess among all words
    recipe = Recipe(steps=steps, learning_rate=1e-3, batch=16)
    train(module, Removal(forget, retain, bound), recipe, progress=NullProgress())
    return module.eval()


def _example(sequence: Continuation, start: int) -> Example:
    return Example(sequence.ids, tuple(at >= start for at in range(len(sequence.ids))), sequence.id)
