"""Importing what calls need before a server serves.

Functions import torch and others late, so that a client, the command and a small room start without them. Two request
threads that do so at once may see each other's half-made modules, and their calls end as bugs. A server therefore
imports everything first, in one thread.
"""

import pkgutil
from collections.abc import Iterable
from importlib import import_module

SERVING = (
    "palimpsest.rpc",
    "palimpsest.jobs",
    "palimpsest.artifacts",
    "palimpsest.catalogue",
    "palimpsest.status",
)
"""What every server needs."""
CLIENTS = ("palimpsest.client.aio", "palimpsest.client.peers")
"""What a room needs that calls others."""
TOKENIZERS = (
    "tokenizers",
    "transformers.models.auto.configuration_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.tokenization_utils_tokenizers",
)
"""What a room needs that reads configurations and tokenizers of models."""
MODELS = (
    *TOKENIZERS,
    "torch",
    "safetensors.torch",
    "transformers.cache_utils",
    "transformers.modeling_utils",
    "transformers.models.auto.modeling_auto",
)
"""What a room needs that runs models."""
_PROGRAMS = ("__main__", "tasks")
"""Modules of packages that servers do not run."""


def import_ahead(names: Iterable[str]) -> None:
    """Import modules, and packages with every module in them; one that is not installed is left out.

    A name is left out where it is another distribution's, which its room may be able to do without. A module of ours
    that cannot be imported is an error.
    """
    for name in dict.fromkeys(names):
        try:
            module = import_module(name)
        except ModuleNotFoundError:
            if name.startswith(("palimpsest.", "services.")):
                raise
            continue
        if name.startswith(("palimpsest.", "services.")):
            for each in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{name}."):
                if each.name.rpartition(".")[2] not in _PROGRAMS:
                    import_module(each.name)
