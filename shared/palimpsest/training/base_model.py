"""A model small enough to be trained in minutes on one core: its tokenizer, and its untrained weights."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from palimpsest.disk import room_for

END, PAD = "<|end|>", "<|pad|>"


@dataclass(frozen=True)
class ModelShape:
    """Shape of a Llama model: by default 0.98 million parameters.

    Attributes
    ----------
    vocabulary
        Tokens, the two special ones and the 256 bytes included. Fewer if the text has not enough to merge.
    positions
        Longest context, in tokens.
    """

    hidden: int = 128
    layers: int = 4
    heads: int = 4
    inner: int = 384
    vocabulary: int = 1024
    positions: int = 512


def write_base_model(folder: Path, texts: Iterable[str], seed: int, shape: ModelShape | None = None) -> Path:
    """Write an untrained model, for each seed and texts always the same one.

    Its tokenizer is a byte-level BPE, which has a token for every byte: no text is unknown to it. Padding has a token
    of its own, so that it is never taken for the end of a text.

    Parameters
    ----------
    folder
        Is created; :func:`palimpsest.lm.load` loads it.
    texts
        What the tokenizer is trained on.
    seed
        Of the weights.
    shape
        Default: some million parameters.

    Raises
    ------
    ResourceExhausted
        DISK_FULL.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    shape = shape or ModelShape()
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=shape.vocabulary,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=END, pad_token=PAD)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=shape.positions,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=bpe.token_to_id(END),
        pad_token_id=bpe.token_to_id(PAD),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).float()
    with room_for(f"the base model in {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer.save_pretrained(folder)
        model.save_pretrained(folder)
    return folder
