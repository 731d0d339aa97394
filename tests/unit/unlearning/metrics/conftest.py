from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.tiny import write_tiny_model


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return [write_tiny_model(tmp_path_factory.mktemp(f"tiny{seed}"), seed) for seed in range(3)]


@pytest.fixture(scope="session")
def modules(tiny_folders: list[Any]) -> list[Any]:
    """Three random models of one shape."""
    return [
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval() for folder in tiny_folders
    ]


@pytest.fixture(scope="session")
def module(modules: list[Any]) -> Any:
    return modules[0]


@pytest.fixture(scope="session")
def tokenizer(tiny_folders: list[Any]) -> Any:
    return AutoTokenizer.from_pretrained(tiny_folders[0])
