"""Building transformers' models beside other threads.

While ``from_pretrained`` builds a model it makes the model's dtype torch's default, which is the whole process's: other
threads' new tensors are bfloat16 meanwhile, and where two builds overlap, the default stays wrong for good. Inside
:func:`building` one model is built at a time, and its dtype is the default of its own thread only.
"""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_LOCK = threading.RLock()


@contextmanager
def building() -> Iterator[None]:
    """Build one model at a time, and leave torch's default dtype alone."""
    modeling_utils: Any = import_module("transformers.modeling_utils")
    with _LOCK:
        original = modeling_utils.local_torch_dtype
        modeling_utils.local_torch_dtype = _default_of_this_thread
        try:
            yield
        finally:
            modeling_utils.local_torch_dtype = original


def _default_of_this_thread(dtype: "torch.dtype", model_class_name: str = "") -> AbstractContextManager[Any]:
    """Stand in for transformers' function of this name, which sets torch's default dtype."""
    return _mode_class()(dtype)


@cache
def _mode_class() -> Any:
    import torch
    from torch.overrides import TorchFunctionMode

    by_dtype = {torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.eye}
    by_value = {torch.tensor, torch.as_tensor, torch.full, torch.arange, torch.linspace, torch.scalar_tensor}

    class DefaultDtype(TorchFunctionMode):
        """Gives tensors made without a dtype the one that torch's default would give them."""

        def __init__(self, dtype: torch.dtype) -> None:
            super().__init__()
            self._dtype = dtype

        def __torch_function__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            kwargs = kwargs or {}
            if kwargs.get("dtype") is not None:
                return func(*args, **kwargs)
            if func in by_dtype:
                return func(*args, **{**kwargs, "dtype": self._dtype})
            made = func(*args, **kwargs)
            if func not in by_value or any(hasattr(arg, "dtype") for arg in args[:1]):
                return made  # of its own dtype
            return made.to(self._dtype) if made.dtype == torch.get_default_dtype() else made

    return DefaultDtype
