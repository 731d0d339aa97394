"""Model folders: may this one be registered, and what is in it?"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.models.claims import check_claims
from palimpsest.models.files import require_regular_files
from palimpsest.models.geometry import ModelGeometry
from palimpsest.models.weights import StoredTensor, stored_tensors

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
        MODEL_INVALID: no config, weights or tokenizer, a damaged file, code of its own, or not a causal LM.
        MODEL_PICKLED: weights in a format that can run code.
    """
    require_regular_files(folder)
    config = _config(folder)
    tensors = stored_tensors(folder)
    _check_architecture(folder, config, tensors)
    tokenizer = _tokenizer(folder)
    text = config.get_text_config()
    floats = [tensor for tensor in tensors.values() if tensor.dtype in _FLOATS]
    if not floats:
        raise _invalid(f"{folder} holds no floating-point weights.")
    sizes = {tensor.name: math.prod(tensor.shape) for tensor in floats}
    if text.tie_word_embeddings:
        sizes.pop("lm_head.weight", None)
    bytes_of: dict[str, int] = {}
    for tensor in floats:
        bytes_of[tensor.dtype] = bytes_of.get(tensor.dtype, 0) + tensor.end - tensor.start
    return FolderFacts(
        architecture=config.architectures[0],
        parameter_count=sum(sizes.values()),
        size_bytes=sum(tensor.end - tensor.start for tensor in tensors.values()),
        dtype=_FLOATS[max(bytes_of, key=lambda dtype: bytes_of[dtype])],
        context_length=int(getattr(text, "max_position_embeddings", 0) or 0),
        vocab_size=int(text.vocab_size),
        has_chat_template=bool(tokenizer.chat_template),
        stored_geometry=ModelGeometry.of(config),
    )


def _config(folder: Path) -> Any:
    """The config as transformers reads it, once it is known to need no code of its own."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    for name in ("config.json", "tokenizer_config.json"):
        if (folder / name).exists() and "auto_map" in _object(folder / name):
            raise _invalid(
                f"{folder / name} has an auto_map: the model runs code of its own, which is never loaded here."
            )
    if not (folder / "config.json").exists():
        raise _invalid(f"{folder} has no config.json.")
    shapes = [tensor.shape for tensor in stored_tensors(folder).values()]
    check_claims(_object(folder / "config.json"), shapes, str(folder / "config.json"))
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
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    shared = expected.keys() & tensors.keys()
    if not shared:
        raise _invalid(f"The weights in {folder} belong to another architecture than its config.json names.")
    for name in sorted(shared):
        if tensors[name].shape != expected[name]:
            found = list(tensors[name].shape)
            raise _invalid(
                f"{folder}: {name} has shape {found}; its config.json asks for {list(expected[name])}."
            )


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exception for a damaged file
        message = f"{folder} has no tokenizer that transformers can read: {error}. Save the model's tokenizer there."
        raise _invalid(message) from error


def _object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise _invalid(f"{path} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise _invalid(f"{path} is not a JSON object.")
    return cast(dict[str, Any], value)


def _invalid(message: str) -> InvalidArgument:
    return InvalidArgument(Reason.MODEL_INVALID, message)
