"""GGUF files so small that tests of everything around them need not wait for one."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import gguf
import numpy as np

WIDTH, HEADS, LAYERS, INNER, VOCAB = 32, 2, 1, 64, 260


def write_gguf(
    path: Path,
    *,
    layers: int = LAYERS,
    pre: str | None = "smollm",
    leave_out: Sequence[str] = (),
    add: Mapping[str, tuple[int, ...]] | None = None,
    settings: Mapping[str, str | int | float] | None = None,
    stored: str = "Q8_0",
) -> Path:
    """Write the tiny model, or one that differs: in layers it claims, in tensors, in settings, in their format."""
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(layers)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCAB)
    tokens = ["<|end|>", "<|start|>", *byte_alphabet(), "ab", "Ġa"]
    writer.add_tokenizer_model("gpt2")
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3] + [1] * (len(tokens) - 2))
    writer.add_token_merges(["a b", "Ġ a"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    writer.add_chat_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    for key, value in (settings or {}).items():
        add_of = {str: writer.add_string, int: writer.add_uint32, float: writer.add_float32}
        add_of[type(value)](key, value)  # type: ignore[operator]
    for name, shape in (tensor_shapes() | dict(add or {})).items():
        values = rng.standard_normal(shape).astype(np.float32)
        if name in leave_out:
            continue
        if len(shape) == 1:
            writer.add_tensor(name, values)
        else:
            kind = gguf.GGMLQuantizationType[stored]
            writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def byte_alphabet() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def tensor_shapes() -> dict[str, tuple[int, ...]]:
    block = {
        "attn_q": (WIDTH, WIDTH),
        "attn_k": (WIDTH, WIDTH),
        "attn_v": (WIDTH, WIDTH),
        "attn_output": (WIDTH, WIDTH),
        "ffn_gate": (INNER, WIDTH),
        "ffn_up": (INNER, WIDTH),
        "ffn_down": (WIDTH, INNER),
        "attn_norm": (WIDTH,),
        "ffn_norm": (WIDTH,),
    }
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (VOCAB, WIDTH), "output_norm.weight": (WIDTH,)}
    return shapes | {f"blk.0.{name}.weight": shape for name, shape in block.items()}
