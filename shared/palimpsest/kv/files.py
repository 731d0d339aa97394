"""Keys and values in a file of their own: safetensors with the token ids beside them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.kv.layout import KeyValues


def save_cache(path: Path, kv: KeyValues, ids: np.ndarray, facts: Mapping[str, str]) -> None:
    """Write ``keys`` and ``values`` ``[layers, kv_heads, tokens, dim]`` and ``token_ids``; facts go to the header."""
    tensors = {"keys": kv.keys.contiguous(), "values": kv.values.contiguous()}
    tensors["token_ids"] = torch.from_numpy(ids.astype(np.int64))
    save_file(tensors, path, {"start": str(kv.start), **facts})


def load_cache(path: Path) -> tuple[KeyValues, np.ndarray, dict[str, str]]:
    """Read what ``save_cache`` wrote.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    InvalidArgument
        The file holds something else.
    """
    path.stat()
    try:
        with safe_open(path, "pt") as file:
            facts = dict(file.metadata() or {})
            kv = KeyValues(
                file.get_tensor("keys"), file.get_tensor("values"), int(facts.pop("start", "0") or 0)
            )
            return kv, file.get_tensor("token_ids").numpy(), facts
    except (SafetensorError, ValueError) as wrong:
        raise InvalidArgument(
            Reason.KV_SHAPE,
            f"{path} does not hold keys, values and token_ids ({wrong}); `palimpsest kv load --out` writes such files.",
        ) from None
