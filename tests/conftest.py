"""Fixtures every kind of test shares: a real Valkey, settings in a scratch folder, two models."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest

from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.settings import Settings

# Two threads of matrix products under load wait for each other more than they work.
os.environ.setdefault("PALIMPSEST_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A real server for the whole run; tests keep apart by key prefix."""
    server = ValkeyServer(tmp_path_factory.mktemp("valkey")).start()
    yield server
    server.stop()


@pytest.fixture
def redis_prefix() -> str:
    return f"test-{uuid.uuid4().hex[:12]}:"


@pytest.fixture
def settings(valkey: ValkeyServer, redis_prefix: str, tmp_path: Path) -> Settings:
    return Settings(
        state_dir=tmp_path / "state",
        redis_url=valkey.url,
        redis_prefix=redis_prefix,
        listen="127.0.0.1:0",
        threads=1,
    )


@pytest.fixture(scope="session")
def model_cache() -> Path:
    """Where converted models are kept between runs; what is in it is named by its source's digest."""
    return Path(
        os.environ.get(
            "PALIMPSEST_TEST_CACHE", platformdirs.user_cache_dir("palimpsest-tests", appauthor=False)
        )
    )


@pytest.fixture(scope="session")
def sample_model(model_cache: Path) -> Path:
    """SmolLM2-135M-Instruct as a safetensors folder."""
    from palimpsest.models import convert_gguf, sample_gguf

    return convert_gguf(sample_gguf(), model_cache)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer llama with a byte-level tokenizer: loads in a blink, says nothing sensible."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-llama")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=["<|end|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        [__doc__ or "", "the quick brown fox jumps over the lazy dog " * 20], trainer
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>")
    fast.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).to(torch.float32).save_pretrained(folder)
    folder.chmod(0o755)  # servers in containers run as another user
    for file in folder.iterdir():
        file.chmod(0o644)
    return folder
