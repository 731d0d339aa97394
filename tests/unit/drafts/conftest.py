"""The tiny model, an n-gram store of what it likes to say, and engines."""

import pytest

from palimpsest.lm import LanguageModel
from palimpsest.ngrams import NgramStore, build_store
from tests.unit.models_in_memory import _one_thread, make_engine, tiny

from .plain import Plain
from .running import PROMPTS, prompt

__all__ = ["_one_thread", "make_engine", "tiny"]


@pytest.fixture(scope="session")
def documents(tiny: LanguageModel) -> list[list[int]]:
    """Prompts with what the model goes on with, some of it cut, so that some contexts are known and some are not."""
    found = []
    for number, text in enumerate(PROMPTS):
        ids = prompt(tiny, text)
        beams = Plain(tiny, ids, most=8).beams(3)
        found += [ids + list(beam.ids[: 8 - 2 * (number % 3)]) for beam in beams]
    return [*found, prompt(tiny, "the quick brown fox jumps over the lazy dog " * 3)]


@pytest.fixture(scope="session")
def store(tiny: LanguageModel, documents, tmp_path_factory) -> NgramStore:
    """Their n-grams."""
    path = tmp_path_factory.mktemp("ngrams") / "store"
    build_store(documents, path, tokenizer="sha256:t", vocab_size=tiny.vocab_size)
    return NgramStore.open(path)
