"""A trained model as a folder that loads and can be registered."""

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from palimpsest.disk import room_for, sync_tree
from palimpsest.errors import FailedPrecondition, Reason
from palimpsest.training.adapters import is_attached

_WEIGHTS = (".safetensors", ".safetensors.index.json")


def is_finite(module: nn.Module) -> bool:
    """Whether all weights are finite. The last step of a run may destroy them: its loss is that of those before it."""
    return all(bool(torch.isfinite(weight).all()) for weight in module.parameters())


def save_model(module: Any, base: Path, folder: Path) -> None:
    """Write a model's weights and config, and beside them the tokenizer's files as its base has them.

    The weights keep their dtype, so those of a float32 run are float32 whatever the base's are: rounding them could
    undo what was learned. A tied head is stored once.

    Parameters
    ----------
    module
        transformers' own. An adapter in it must be merged first.
    base
        Folder of the model that was trained.
    folder
        Where to write; created.

    Raises
    ------
    FailedPrecondition
        ADAPTER_ATTACHED.
    ResourceExhausted
        DISK_FULL: nothing is left.
    """
    if is_attached(module):
        message = "The model has an adapter that is not merged. Merge it, or save the adapter alone."
        raise FailedPrecondition(Reason.ADAPTER_ATTACHED, message)
    try:
        with room_for(f"the trained model in {folder}"):
            folder.mkdir(parents=True)
            module.save_pretrained(folder)
            for file in base.iterdir():
                if file.is_file() and not file.name.endswith(_WEIGHTS) and not (folder / file.name).exists():
                    shutil.copyfile(file, folder / file.name)
            if (templates := base / "additional_chat_templates").is_dir():
                shutil.copytree(templates, folder / templates.name)
            sync_tree(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
