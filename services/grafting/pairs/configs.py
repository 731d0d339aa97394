"""What a config alone tells of a model."""

from pathlib import Path
from typing import Any

from palimpsest.errors import FailedPrecondition, Reason


def config_of(folder: Path) -> Any:
    """Read a model's config as transformers does.

    Raises
    ------
    FailedPrecondition
        MODEL_INVALID.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise FailedPrecondition(
            Reason.MODEL_INVALID, f"The config in {folder} cannot be read: {error}"
        ) from error


def skeleton_of(config: Any) -> Any:
    """Build a causal LM of a config whose parameters are nowhere (torch's device "meta").

    Raises
    ------
    FailedPrecondition
        UNSUPPORTED_ARCH.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from palimpsest.model_building import building
    from services.grafting.engine.architecture import refuse_by_config

    refuse_by_config(config)
    with building(), torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)
