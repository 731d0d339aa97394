"""Donors that are LoRA adapters: read from their artefacts, and never merged into the base."""

import io
import math
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palimpsest.errors import FailedPrecondition, InvalidArgument, NotFound, Reason
from palimpsest.json_input import decode
from palimpsest.models import ModelRecord

if TYPE_CHECKING:
    import torch

    from services.grafting.engine.low_rank import AdapterTensors

MOST_BYTES = 1 << 30
_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_CONFIG_BYTES = 1 << 20
_FLOATS = ("torch.float32", "torch.bfloat16", "torch.float16")
_UNSUPPORTED = (
    "use_dora", "use_qalora", "use_bdlora", "modules_to_save", "alpha_pattern", "layer_replication", "lora_bias",
    "target_parameters", "trainable_token_indices",
)  # fmt: skip
"""Options of peft's with which an adapter is more than two matrices beside another, or scaled in other ways."""


@dataclass(frozen=True)
class AdapterRecord:
    """An artefact with an adapter, as a donor: what a registered model has of these names, this has too.

    Parameters
    ----------
    digest
        Of the artefact: a tar file in peft's format, as FineTune makes it.
    size
        Its bytes.
    read
        Returns them.
    base_of
        Looks a model up by its id, and raises where there is none.
    """

    digest: str
    size: int
    read: Callable[[], bytes]
    base_of: Callable[[str], ModelRecord]

    @property
    def model_id(self) -> str:
        """The digest, which names it."""
        return self.digest

    @property
    def fingerprint(self) -> str:
        """The digest."""
        return self.digest

    @property
    def parameter_count(self) -> int:
        """About how many numbers it has, stored in float32 as training does."""
        return self.size // 4


Donor = ModelRecord | AdapterRecord


class Adapter:
    """An adapter's two files.

    Parameters
    ----------
    config
        Of peft.
    tensors
        By the names that peft gives them.
    """

    def __init__(self, config: Mapping[str, Any], tensors: "Mapping[str, torch.Tensor]") -> None:
        self._config, self._tensors = config, tensors

    @property
    def base(self) -> str:
        """The model that it was trained on, as the config names it; may be empty."""
        return str(self._config.get("base_model_name_or_path") or "")

    def matrices(self) -> "dict[str, AdapterTensors]":
        """Return both matrices and the scale of each module, by the module's path in the base.

        Raises
        ------
        InvalidArgument
            ADAPTER_INVALID.
        """
        from services.grafting.engine.low_rank import AdapterTensors

        halves: dict[str, dict[str, torch.Tensor]] = {}
        for name, tensor in self._tensors.items():
            path, _, kind = name.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".")
            fits = tensor.ndim == 2 and str(tensor.dtype) in _FLOATS
            if kind not in ("lora_A", "lora_B") or not fits:
                raise _invalid(
                    f"it has a tensor {name[:200]!r}, which is neither of the two matrices of a LoRA"
                )
            halves.setdefault(path, {})[kind] = tensor
        if lacking := [path for path, both in halves.items() if len(both) != 2]:
            raise _invalid(f"one of the two matrices of {lacking[0][:200]} is missing")
        root = bool(self._config.get("use_rslora"))
        found = {}
        for path, both in halves.items():
            rank = both["lora_A"].shape[0]
            scale = float(self._config["lora_alpha"]) / (rank**0.5 if root else rank) if rank else 0.0
            found[path] = AdapterTensors(both["lora_A"], both["lora_B"], scale)
        return found


def require_fits(base: ModelRecord, donor: AdapterRecord) -> None:
    """Refuse an adapter that was not made for a base, or that cannot act on rows, before the base is loaded.

    Raises
    ------
    InvalidArgument
        ADAPTER_INVALID, COMPONENT_OUT_OF_RANGE.
    FailedPrecondition
        ADAPTER_MISMATCH: it was trained on another model. ARCH_MISMATCH: a matrix has another shape. UNSUPPORTED_ARCH.
    """
    from services.grafting.engine.low_rank import deltas_of
    from services.grafting.pairs.configs import config_of, skeleton_of

    adapter = read_adapter(donor)
    require_own_base(base, donor, adapter)
    deltas_of(adapter.matrices(), skeleton_of(config_of(Path(base.path))), base.model_id)


def require_own_base(base: ModelRecord, donor: AdapterRecord, adapter: Adapter) -> None:
    """Refuse an adapter of another model. One whose config names no registered model is taken at its shapes.

    Raises
    ------
    FailedPrecondition
        ADAPTER_MISMATCH.
    """
    named = adapter.base
    if not named or named in (base.model_id, base.parent if base.relation == "RELATION_QUANTIZED" else ""):
        return
    try:
        trained_on = donor.base_of(named)
    except (NotFound, InvalidArgument):  # a hub's name, or a model that is gone
        return
    if trained_on.fingerprint != base.fingerprint:
        raise FailedPrecondition(
            Reason.ADAPTER_MISMATCH,
            f"The adapter {donor.digest} was trained on {named}, and not on {base.model_id}. Graft it into {named}.",
            metadata={"base": base.model_id, "trained_on": named},
        )


def read_adapter(record: AdapterRecord) -> Adapter:
    """Read an adapter's tar file: two regular files, of which no other is looked at.

    Raises
    ------
    InvalidArgument
        ADAPTER_INVALID: it is none, or uses an option of peft's that cannot act on rows.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    if record.size > MOST_BYTES:
        raise _invalid(f"it has {record.size} bytes, and may have {MOST_BYTES}")
    try:
        with tarfile.open(fileobj=io.BytesIO(record.read()), mode="r:") as tar:
            files = {name: _member(tar, name) for name in (_CONFIG, _WEIGHTS)}
        if len(files[_CONFIG]) > _CONFIG_BYTES:
            raise _invalid(f"{_CONFIG} has more than {_CONFIG_BYTES} bytes")
        config = decode(files[_CONFIG], max_bytes=_CONFIG_BYTES, strict=False)
        tensors = load(files[_WEIGHTS])
    except (tarfile.TarError, SafetensorError, ValueError, KeyError, EOFError) as error:
        raise _invalid(f"it is no tar file of {_CONFIG} and {_WEIGHTS}: {str(error)[:200]}") from error
    if not isinstance(config, dict) or str(config.get("peft_type")).upper() != "LORA":
        raise _invalid(f"{_CONFIG} describes no LoRA")
    alpha = config.get("lora_alpha")
    if not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise _invalid(f"{_CONFIG} has no number for lora_alpha")
    used = [name for name in _UNSUPPORTED if config.get(name)]
    if config.get("bias", "none") != "none":
        used.append("bias")
    if used:
        raise _invalid(f"it uses {used[0]}, so that it is more than two matrices beside each of the base's")
    return Adapter(config, tensors)


def joined(chunks: Iterable[bytes]) -> bytes:
    """Return the whole of an artefact."""
    return b"".join(chunks)


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no regular file")
    return file.read(MOST_BYTES + 1)


def _invalid(why: str) -> InvalidArgument:
    return InvalidArgument.field(
        Reason.ADAPTER_INVALID,
        "pair.donor",
        f"This adapter cannot be grafted: {why}. Train one with FineTune and lora.unmerged, or merge it into a model.",
    )
