"""Low-rank adapters, by peft: put into a model, merged into its weights, or kept beside them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from palimpsest.disk import room_for, sync_tree
from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.training.recipe import ALL_LINEAR, LoraSettings

_HALVES = (torch.bfloat16, torch.float16)

NAME = "default"
"""peft's name for the one adapter of a model."""


def attach(module: nn.Module, settings: LoraSettings, seed: int) -> None:
    """Put a new adapter into a model, in place: only the adapter trains from here on, and the output does not change.

    Parameters
    ----------
    module
        A causal LM of transformers, without an adapter.
    settings
        Rank, scale and which layers.
    seed
        Decides A; B begins at 0.

    Raises
    ------
    InvalidArgument
        ADAPTER_INVALID: no layer has the name of one of the targets, a layer is of a kind that takes no adapter, or the
        embedding or the head is among the targets.
    FailedPrecondition
        ADAPTER_ATTACHED: it has one. ADAPTERS_NOT_INSTALLED: peft is missing.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        message = "Adapters need the package peft: install palimpsest-lm[training], or train all weights."
        raise FailedPrecondition(Reason.ADAPTERS_NOT_INSTALLED, message) from error
    if is_attached(module):
        message = "The model has an adapter. Merge or remove it before another is attached."
        raise FailedPrecondition(Reason.ADAPTER_ATTACHED, message)
    _require_layers(module, settings.targets)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.scale,  # pyright: ignore[reportArgumentType]  # a float works, and is documented
        target_modules=list(settings.targets) or ALL_LINEAR,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            inject_adapter_in_model(config, module, NAME)
        except ValueError as error:
            raise _invalid(f"The adapter does not fit this model: {error}") from error
    for weight in module.parameters():
        if weight.requires_grad and weight.dtype in _HALVES:
            weight.data = (
                weight.data.float()
            )  # in 8 bits of mantissa most steps of a low rate are rounded away
    module.eval()


def is_attached(module: nn.Module) -> bool:
    """Whether a model has an adapter that is not merged."""
    return bool(_adapted(module))


def merge(module: nn.Module) -> None:
    """Add the adapter to the weights it adapts and remove it, in place. All weights can be trained afterwards.

    Raises
    ------
    FailedPrecondition
        ADAPTER_MISSING: there is none.
    """
    _require(module)
    for layer in _adapted(module).values():
        layer.merge(safe_merge=False)
    remove(module)


def remove(module: nn.Module) -> None:
    """Take the adapter out, in place: the model is what it was before. All weights can be trained afterwards.

    Raises
    ------
    FailedPrecondition
        ADAPTER_MISSING: there is none.
    """
    _require(module)
    for name, layer in _adapted(module).items():
        parent, _, last = name.rpartition(".")
        setattr(module.get_submodule(parent), last, layer.get_base_layer())
    vars(module).pop("peft_config", None)
    module.requires_grad_(True)


def save_adapter(module: Any, folder: Path, base: str = "") -> None:
    """Write the adapter alone, in peft's format: ``adapter_model.safetensors`` and ``adapter_config.json``.

    Parameters
    ----------
    module
        A model with an adapter.
    folder
        Where to write; created if missing.
    base
        What to call the model that the adapter is for.

    Raises
    ------
    FailedPrecondition
        ADAPTER_MISSING: there is none.
    ResourceExhausted
        DISK_FULL.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    _require(module)
    with room_for(f"the adapter in {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        config: Any = module.peft_config[NAME]
        tensors = get_peft_model_state_dict(module, adapter_name=NAME)
        # peft looks for the names that its own wrapper would give them
        named = {
            f"base_model.model.{name}": value.detach().cpu().contiguous() for name, value in tensors.items()
        }
        save_file(named, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        config.base_model_name_or_path = base or None
        config.save_pretrained(str(folder))
        sync_tree(folder)


def _adapted(module: nn.Module) -> dict[str, Any]:
    """Layers with an adapter, by their paths."""
    if not hasattr(module, "peft_config"):
        return {}
    from peft.tuners.lora import LoraLayer

    return {name: each for name, each in module.named_modules() if isinstance(each, LoraLayer)}


def _require(module: nn.Module) -> None:
    if not is_attached(module):
        raise FailedPrecondition(Reason.ADAPTER_MISSING, "The model has no adapter.")


def _require_layers(module: Any, targets: Sequence[str]) -> None:
    """Refuse targets that name no layer, which peft passes over beside others, and those that name the vocabulary's.

    The embedding and the head may be one matrix: an adapter on either, merged, would change both.
    """
    ends = (module.get_input_embeddings(), module.get_output_embeddings())
    for target in targets:
        named = [each for name, each in module.named_modules() if f".{name}".endswith(f".{target}")]
        if not named:
            raise _invalid(
                f"The model has no layer {target!r}. Choose among its linear layers, or give none."
            )
        if any(each is end for each in named for end in ends):
            raise _invalid(
                f"{target} holds the vocabulary, and takes no adapter. Choose among the linear layers."
            )


def _invalid(message: str) -> InvalidArgument:
    return InvalidArgument.field(Reason.ADAPTER_INVALID, "lora", message)
