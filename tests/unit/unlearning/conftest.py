import pytest
from transformers import LlamaForCausalLM

from tests.unit.unlearning import knowing


@pytest.fixture(scope="session")
def target() -> LlamaForCausalLM:
    """Knows what is to be forgotten. Not to be changed."""
    return knowing.made(knowing.FORGET, knowing.RETAIN)


@pytest.fixture(scope="session")
def retrained() -> LlamaForCausalLM:
    """Trained without it. Not to be changed."""
    return knowing.made(knowing.RETAIN, seed=1)


@pytest.fixture(scope="session")
def never_knew() -> LlamaForCausalLM:
    """Trained on something else. Not to be changed."""
    return knowing.made(knowing.OTHER, seed=2)
