"""Palimpsest: serve open-weight language models and manage their caches, corpora and artefacts.

>>> from palimpsest import Client
>>> with Client.local() as client:                                    # doctest: +SKIP
...     client.models.register_model(model_id="smollm2-135m", source="sample").result()
...     print(client.decoding.text(model="smollm2-135m", prompt="Parchment was", max_tokens=16))
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from palimpsest.client import AsyncClient, AsyncJob, AsyncStream, Client, Job, Stream, Tls
    from palimpsest.errors import (
        Aborted,
        AlreadyExists,
        Cancelled,
        DataLoss,
        DeadlineExceeded,
        FailedPrecondition,
        Internal,
        InvalidArgument,
        NotFound,
        OutOfRange,
        PalimpsestError,
        PermissionDenied,
        Reason,
        ResourceExhausted,
        Unauthenticated,
        Unavailable,
        Unimplemented,
    )
    from palimpsest.settings import Settings

    __version__: str

_CLIENT = ("AsyncClient", "AsyncJob", "AsyncStream", "Client", "Job", "Stream", "Tls")

__all__ = [
    "Aborted",
    "AlreadyExists",
    "AsyncClient",
    "AsyncJob",
    "AsyncStream",
    "Cancelled",
    "Client",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "Internal",
    "InvalidArgument",
    "Job",
    "NotFound",
    "OutOfRange",
    "PalimpsestError",
    "PermissionDenied",
    "Reason",
    "ResourceExhausted",
    "Settings",
    "Stream",
    "Tls",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
]


def __getattr__(name: str) -> object:
    # On first use (PEP 562): servers and workers import this package too, and need no client.
    if name == "__version__":
        from importlib.metadata import version

        return version("palimpsest-lm")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "client" if name in _CLIENT else "settings" if name == "Settings" else "errors"
    value = getattr(import_module(f"palimpsest.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
