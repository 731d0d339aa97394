"""Model folders: may this one be registered, and what is in it?"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.models.claims import check_claims
from palimpsest.models.completeness import loading_info, require_whole
from palimpsest.models.files import require_regular_files
from palimpsest.models.geometry import ModelGeometry
from palimpsest.models.json_files import check_json_files, read_object
from palimpsest.models.tokenizers import failing_as_model
from palimpsest.models.weights import StoredTensor, stored_tensors

_MOST = (1 << 31) - 1
"""Largest size that a record holds."""
_MOST_LAYERS = 4096
"""As many as a chunk of a cache may have; a model is not even built without memory with many more."""
_FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True)
class FolderFacts:
    """What a model folder holds; the fields are those of :class:`~palimpsest.models.record.ModelRecord`."""

    architecture: str
    parameter_count: int
    size_bytes: int
    dtype: str
    context_length: int
    vocab_size: int
    has_chat_template: bool
    stored_geometry: ModelGeometry


def inspect_folder(folder: Path) -> FolderFacts:
    """Check that a folder holds a causal language model that is safe to load, without loading its weights.

    Raises
    ------
    InvalidArgument
        MODEL_INVALID: no config, weights or tokenizer, a damaged file, code of its own, not a causal LM, or weights
        that are not those of the model its config describes.
        MODEL_PICKLED: weights in a format that can run code.
    """
    require_regular_files(folder)
    config = _config(folder)
    context_length = _count(folder, config, "max_position_embeddings")
    vocab_size, geometry = _count(folder, config, "vocab_size"), _geometry(folder, config)
    if not vocab_size:
        raise _invalid(f"{folder / 'config.json'} has no vocab_size.")
    tensors = stored_tensors(folder)
    _check_architecture(folder, config, tensors)
    tokenizer = _tokenizer(folder)
    floats = [tensor for tensor in tensors.values() if tensor.dtype in _FLOATS]
    if not floats:
        raise _invalid(f"{folder} holds no floating-point weights.")
    sizes = {tensor.name: math.prod(tensor.shape) for tensor in floats}
    if config.get_text_config().tie_word_embeddings:
        sizes.pop("lm_head.weight", None)
    bytes_of: dict[str, int] = {}
    for tensor in floats:
        bytes_of[tensor.dtype] = bytes_of.get(tensor.dtype, 0) + tensor.end - tensor.start
    return FolderFacts(
        architecture=config.architectures[0],
        parameter_count=sum(sizes.values()),
        size_bytes=sum(tensor.end - tensor.start for tensor in tensors.values()),
        dtype=_FLOATS[max(bytes_of, key=lambda dtype: bytes_of[dtype])],
        context_length=context_length,
        vocab_size=vocab_size,
        has_chat_template=bool(tokenizer.chat_template),
        stored_geometry=geometry,
    )


def _config(folder: Path) -> Any:
    """The config as transformers reads it, once it is known to need no code of its own."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    check_json_files(folder)
    for name in ("config.json", "tokenizer_config.json"):
        if (folder / name).exists() and "auto_map" in read_object(folder / name):
            raise _invalid(
                f"{folder / name} has an auto_map: the model runs code of its own, which is never loaded here."
            )
    if not (folder / "config.json").exists():
        raise _invalid(f"{folder} has no config.json.")
    shapes = [tensor.shape for tensor in stored_tensors(folder).values()]
    check_claims(read_object(folder / "config.json"), shapes, str(folder / "config.json"))
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # whatever transformers stumbles over is in the user's file
        raise _invalid(f"{folder / 'config.json'} cannot be read by transformers: {error}") from error
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or not config.architectures:
        raise _invalid(
            f"{folder} is a {config.model_type!r} model, not a causal language model that transformers has."
        )
    return config


def _check_architecture(folder: Path, config: Any, tensors: dict[str, StoredTensor]) -> None:
    """Compare the stored tensors with the model the config describes, built without memory."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:  # as above
        raise _invalid(
            f"transformers cannot build the model that {folder / 'config.json'} describes: {error}"
        ) from error
    if getattr(config, "quantization_config", None) is not None:
        return  # how its tensors are called is the quantiser's business, and it may be on the worker alone
    try:
        info = loading_info(model, tensors.values())
    except Exception as error:  # as above
        raise _invalid(
            f"transformers cannot load the weights in {folder} as its config.json describes them: {error}"
        ) from error
    require_whole(folder, info)


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        with failing_as_model():
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
            tokenizer("")  # some damage shows only when it is used
        return tokenizer
    except Exception as error:  # as above
        message = f"{folder} has no tokenizer that transformers can read: {error}. Save the model's tokenizer there."
        raise _invalid(message) from error


def _count(folder: Path, config: Any, name: str) -> int:
    """A size in the config's text part; 0 where it has none."""
    value = getattr(config.get_text_config(), name, None) or 0
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or not 0 <= value <= _MOST:
        raise _invalid(f"{folder / 'config.json'} says that {name} is {value!r}, which is no size.")
    return int(value)


def _geometry(folder: Path, config: Any) -> ModelGeometry:
    try:
        geometry = ModelGeometry.of(config)
    except Exception as error:  # as in _config
        raise _invalid(f"{folder / 'config.json'} describes a model that makes no sense: {error}") from error
    sizes = (geometry.layers, geometry.hidden_size, geometry.kv_heads, geometry.head_dim)
    if geometry.layers > _MOST_LAYERS or not all(0 <= size <= _MOST for size in sizes):
        raise _invalid(f"{folder / 'config.json'} describes a model that makes no sense: {geometry}.")
    return geometry


def _invalid(message: str) -> InvalidArgument:
    return InvalidArgument(Reason.MODEL_INVALID, message)
