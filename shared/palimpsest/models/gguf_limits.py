"""What a GGUF file may hold that would be left out of its conversion without a word: refused by name."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.models.gguf_file import GgufHeader

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DIGITS_APART = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"}
"""Values of ``tokenizer.ggml.pre`` whose tokenizers split every digit off before byte-level BPE."""
LLAMA_3 = {"llama3", "llama-v3", "llama-bpe"}
_GPT_2 = {"gpt-2", "phi-2", "mpt", "olmo"}
"""Those that split as GPT-2 does."""
_BYTE_LEVEL = "gpt2"
"""Value of ``tokenizer.ggml.model`` whose merges depend on how text is split first."""


def refuse_unread(path: Path, header: GgufHeader) -> None:
    """Refuse a file whose header asks for what a conversion does not do.

    Raises
    ------
    InvalidArgument
        MODEL_INVALID: one part of several, scaled rotary positions, or a pre-tokenizer that is not known.
    """
    parts = header.metadata.get("split.count", 0)
    if isinstance(parts, int) and parts > 1:
        part = int(header.metadata.get("split.no", 0)) + 1
        raise _unread(
            path,
            f"one part of a model ({part} of {parts})",
            "Merge the parts (llama-gguf-split --merge), and register the whole file",
        )
    rope = _scaling(header)
    if rope:
        raise _unread(
            path,
            f"{', '.join(rope)}: rotary positions are scaled, which a conversion would leave out",
            "Register the model's safetensors folder",
        )
    if header.metadata.get("tokenizer.ggml.model") == _BYTE_LEVEL:
        splitting = header.metadata.get("tokenizer.ggml.pre")
        if splitting not in _known_splittings():
            named = f"the pre-tokenizer {splitting!r}" if splitting else "no tokenizer.ggml.pre"
            raise _unread(
                path,
                f"{named}, so that how text is split into tokens is not known",
                "Register the model's safetensors folder",
            )


def unread_tensors(header: GgufHeader, model: "PreTrainedModel") -> list[str]:
    """Names of the file's tensors that are left out where it is loaded into a model.

    transformers skips those it has no name for. Experts are read in parts, whose names it makes as it goes: they are
    not looked at here, and one that is missing is missing from the model.
    """
    from transformers.integrations.gguf.utils import is_gguf_arch_supported
    from transformers.modeling_gguf_pytorch_utils import (
        TENSOR_PROCESSORS,
        TensorProcessor,
        get_gguf_hf_weights_map,
    )

    if is_gguf_arch_supported(header.architecture):
        return []  # its loading info tells
    processor = TENSOR_PROCESSORS.get(header.architecture, TensorProcessor)(config=model.config.to_dict())
    known: Mapping[str, str] = get_gguf_hf_weights_map(model, processor)
    return [name for name in header.tensor_types if name not in known and "_exps." not in name]


def _scaling(header: GgufHeader) -> list[str]:
    """Tensors and settings of scaled rotary positions."""
    tensors = [name for name in header.tensor_types if name.startswith("rope_")]
    prefix = f"{header.architecture}.rope.scal"  # .scaling.*, and .scale_linear of old files
    settings = [name for name in header.metadata if name.startswith(prefix)]
    if header.metadata.get(f"{header.architecture}.rope.scaling.type") == "none":
        settings = []
    return [*tensors, *settings]


def _known_splittings() -> set[str]:
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    return DIGITS_APART | LLAMA_3 | _GPT_2 | set(GGUF_PRE_TOKENIZER_SPLITS)


def _unread(path: Path, what: str, instead: str) -> InvalidArgument:
    message = f"{path} has {what}. {instead} instead."
    return InvalidArgument(Reason.MODEL_INVALID, message, metadata={"path": path})
