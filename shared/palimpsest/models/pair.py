"""Comparing two models: whether the weights of one fit into the other, and which tensors differ."""

import math
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palimpsest.models.fingerprint import tokenizer_facts
from palimpsest.models.json_files import read_object
from palimpsest.models.weights import StoredTensor, stored_tensors
from palimpsest.progress import NullProgress, Progress

if TYPE_CHECKING:
    import torch

_HEAD, _SHAPING = "lm_head.weight", ("model_type", "architectures", "vocab_size", "tie_word_embeddings")
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block|layer)\.(\d+)\.")
_COMPONENTS = (
    ("norm", re.compile(r"(?:norm|ln)(?:_?\w+)?\.(?:weight|bias)$")),
    ("head", re.compile(r"(?:^|\.)(?:lm_head|embed_out|output)\.")),
    ("embedding", re.compile(r"embed|wte|wpe")),
    ("attention", re.compile(r"attn|attention")),
    ("mlp", re.compile(r"mlp|ffn|feed_forward|experts|fc[12]\.")),
)
_IDS_NAMED = 5


@dataclass(frozen=True)
class TensorChange:
    """How one tensor differs; the fields are those of the contract's ``TensorDelta``."""

    tensor: str
    layer: int
    component: str
    delta_norm: float
    relative_norm: float
    max_abs_diff: float


@dataclass
class PairComparison:
    """How two models differ; the fields are those of the contract's ``PairReport``."""

    compatible: bool = True
    differences: list[str] = field(default_factory=list)
    tied: bool = False
    same_tokenizer: bool = True
    deltas: list[TensorChange] = field(default_factory=list)
    max_abs_diff: float = 0.0
    tensors_compared: int = 0

    def refuse(self, difference: str) -> None:
        """Note a difference that keeps the weights of one out of the other."""
        self.compatible = False
        self.differences.append(difference)


def compare(base: Path, donor: Path, progress: Progress | None = None) -> PairComparison:
    """Compare two model folders, holding one pair of tensors in memory at a time.

    Differences are taken in float64 from the stored values, whatever their dtypes.

    Parameters
    ----------
    base, donor
        Safetensors folders, sharded or not.
    progress
        Called with each tensor; may raise to stop.

    Raises
    ------
    InvalidArgument
        MODEL_INVALID or MODEL_PICKLED, as stored_tensors.
    """
    progress = progress or NullProgress()
    report = PairComparison()
    ours, theirs = stored_tensors(base), stored_tensors(donor)
    _compare_configs(base, donor, report)
    _compare_tokenizers(base, donor, report)
    report.tied = _tied(base, ours) and _tied(donor, theirs)

    for where, names in (("base", ours.keys() - theirs.keys()), ("donor", theirs.keys() - ours.keys())):
        for name in sorted(names - {_HEAD} if report.tied else names):
            report.refuse(f"{name} is in the {where} alone")
    shared = [name for name in ours if name in theirs]
    with ExitStack() as stack:
        left, right = _Tensors(stack), _Tensors(stack)
        for done, name in enumerate(shared):
            progress.step(done, len(shared), "comparing tensors")
            mine, other = ours[name], theirs[name]
            if mine.shape != other.shape:
                report.refuse(
                    f"{name} has shape {list(mine.shape)} in the base and {list(other.shape)} in the donor"
                )
                continue
            if mine.dtype != other.dtype:
                report.differences.append(
                    f"{name} is {mine.dtype} in the base and {other.dtype} in the donor"
                )
            report.tensors_compared += 1
            change = _change(name, left.load(mine), right.load(other), report)
            if change is not None:
                report.deltas.append(change)
                report.max_abs_diff = max(report.max_abs_diff, change.max_abs_diff)
    report.deltas.sort(key=lambda change: (-change.relative_norm, change.tensor))
    return report


class _Tensors:
    """Loads tensors, keeping each file open until the comparison ends."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._files: dict[Path, Any] = {}

    def load(self, tensor: StoredTensor) -> "torch.Tensor":
        from safetensors import safe_open

        if tensor.file not in self._files:
            self._files[tensor.file] = self._stack.enter_context(safe_open(tensor.file, framework="pt"))
        return self._files[tensor.file].get_tensor(tensor.name)


def _change(
    name: str, base: "torch.Tensor", donor: "torch.Tensor", report: PairComparison
) -> TensorChange | None:
    import torch

    if torch.equal(base, donor):
        return None
    squares = norm = peak = 0.0
    # By rows: float64 copies of a whole embedding would be the largest thing in memory.
    for mine, other in zip(_rows(base), _rows(donor), strict=True):
        delta = other.double() - mine.double()
        squares += float(delta.square().sum())
        norm += float(mine.double().square().sum())
        peak = max(peak, float(delta.abs().max())) if delta.numel() else peak
        if not bool(torch.isfinite(delta).all()):
            squares = peak = math.inf
    if math.isinf(squares):
        report.differences.append(f"{name} has values that are not finite")
    if squares == 0:
        return None
    delta_norm, base_norm = math.sqrt(squares), math.sqrt(norm) if math.isfinite(norm) else math.inf
    relative = delta_norm / base_norm if 0 < base_norm < math.inf else math.inf
    layer = _LAYER.search(name)
    return TensorChange(
        tensor=name,
        layer=int(layer[1]) if layer else -1,
        component=component_of(name),
        delta_norm=delta_norm,
        relative_norm=relative,
        max_abs_diff=peak,
    )


def _rows(tensor: "torch.Tensor") -> "Iterator[torch.Tensor]":
    flat = tensor.reshape(-1)
    return iter(flat.split(1 << 22)) if flat.numel() else iter(())


def component_of(name: str) -> str:
    """The part of a transformer a tensor belongs to: attention, mlp, norm, embedding, head or other."""
    return next((component for component, pattern in _COMPONENTS if pattern.search(name)), "other")


def _compare_configs(base: Path, donor: Path, report: PairComparison) -> None:
    ours, theirs = read_object(base / "config.json"), read_object(donor / "config.json")
    for key in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(key), theirs.get(key)
        if mine == other or key.startswith("_") or key in ("transformers_version", "dtype", "torch_dtype"):
            continue
        note = f"config: {key} is {mine!r} in the base and {other!r} in the donor"
        if key in _SHAPING:
            report.refuse(note)
        else:
            report.differences.append(note)


def _compare_tokenizers(base: Path, donor: Path, report: PairComparison) -> None:
    found = tokenizer_differences(base, donor)
    report.same_tokenizer = not found
    report.differences += [f"tokenizer: {difference}" for difference in found]


def tokenizer_differences(base: Path, donor: Path) -> list[str]:
    """Say how two models' tokenizers give other ids for a text; nothing where they do not."""
    if tokenizer_facts(base) == tokenizer_facts(donor):
        return []
    mine, other = _vocabulary(base), _vocabulary(donor)
    moved = sorted(token for token in mine.keys() | other.keys() if mine.get(token) != other.get(token))
    if not moved:
        return ["the same ids, but text is split or opened differently"]
    some = ", ".join(repr(token) for token in moved[:_IDS_NAMED])
    return [f"{len(moved)} tokens have other ids or are missing, such as {some}"]


def _vocabulary(folder: Path) -> dict[str, int]:
    from palimpsest.models.tokenizers import load_tokenizer

    return load_tokenizer(folder).get_vocab()


def _tied(folder: Path, tensors: dict[str, StoredTensor]) -> bool:
    """Whether one matrix is both input and output embedding: by the config, or else by the stored tensors."""
    return bool(read_object(folder / "config.json").get("tie_word_embeddings", _HEAD not in tensors))
