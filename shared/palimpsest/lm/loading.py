"""Loading a model: one function for serving, training, grafting and calibration."""

from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.lm.hardware import physical_cores, pick_device, pick_dtype
from palimpsest.lm.model import CompiledForward, LanguageModel
from palimpsest.model_building import building
from palimpsest.models.completeness import require_whole
from palimpsest.models.record import ModelRecord
from palimpsest.models.tokenizers import failing_as_model


def load(
    source: str | Path | ModelRecord,
    device: str = "auto",
    dtype: str = "auto",
    *,
    trainable: bool = False,
    threads: int = 0,
    cache_bytes: int = 2 << 30,
) -> LanguageModel:
    """Load a model.

    Parameters
    ----------
    source
        A registered model, or a folder with safetensors, config and tokenizer.
    device, dtype
        As in :class:`palimpsest.settings.Settings`. "auto" decides by what is there and what is fastest; a trainable
        model is float32 then.
    trainable
        Run every pass through transformers' own module: its parameters are separate tensors that require gradients,
        and hooks on its parts (found by :mod:`palimpsest.lm.anatomy`) see every pass. The module is in evaluation
        mode; call ``model.module.train()`` for dropout. For gradients call ``model.module``, as
        :meth:`LanguageModel.forward` runs in inference mode.
    threads
        CPU threads of one forward pass; 0 for one per physical core. Also sets torch's.
    cache_bytes
        Memory for keys and values, in bytes.

    Raises
    ------
    InvalidArgument, FailedPrecondition
        MODEL_INVALID: the folder holds no causal LM that transformers can load without running foreign code, or its
        tensors are not all those of the model its config describes, and no others.
    """
    path = source.path if isinstance(source, ModelRecord) else source
    target = pick_device(device)
    threads = threads or physical_cores()
    if target.type == "cpu":
        torch.set_num_threads(threads)
    module, tokenizer = load_module(path, target, "float32" if trainable and dtype == "auto" else dtype)
    module = cast(Any, module.requires_grad_(trainable)).to(target)
    return LanguageModel(module, tokenizer, threads, cache_bytes, trainable=trainable)


def load_module(
    path: str | Path, device: torch.device, dtype: str = "auto", **options: Any
) -> tuple[Any, Any]:
    """Load transformers' own module and tokenizer alone, and run nothing; quantised weights stay quantised.

    Parameters
    ----------
    path
        A folder with safetensors, config and tokenizer.
    device, dtype
        What an "auto" dtype is chosen for, and the dtype. The module stays where transformers puts it.
    options
        Further ones of ``from_pretrained``.

    Returns
    -------
    module
        In evaluation mode.
    tokenizer
        Its own.

    Raises
    ------
    InvalidArgument, FailedPrecondition
        As :func:`load`.
    """
    transformers_logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True)
        with failing_as_model():
            tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        kind = pick_dtype(dtype, device, CompiledForward is not None, config.get_text_config().hidden_size)
        with building():
            module, info = cast(Any, AutoModelForCausalLM).from_pretrained(
                path,
                config=config,
                dtype=kind,
                local_files_only=True,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # told below, with the others
                output_loading_info=True,
                **options,
            )
    except (OSError, ValueError, KeyError) as error:
        raise InvalidArgument(
            Reason.MODEL_INVALID, f"{path} does not load as a causal language model: {error}"
        ) from error
    require_whole(path, info)  # files may have changed since they were registered
    return module.eval(), tokenizer
