"""Task vectors: the direction in which training on the forget set moves the weights, walked backwards.

``theta = theta0 - alpha (theta_reinforced - theta0)`` (Ilharco et al. 2023, arXiv 2212.04089). Differences are taken in
float32, whatever the weights are stored as: in bfloat16 small updates are lost. ``alpha = 0`` gives the model's own
bits, ``alpha = -1`` those of the reinforced one.

The reinforced model knows the forget set better than the model does: destroy it when the run is over.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from palimpsest.errors import FailedPrecondition, Reason
from palimpsest.models.weights import StoredTensor, stored_tensors, weight_files
from palimpsest.progress import Progress
from services.unlearning.algorithms.parameters import Parameters, number, switch


@dataclass(frozen=True, kw_only=True)
class TaskVectorParameters(Parameters):
    """Hyper-parameters of the task vector.

    Attributes
    ----------
    alpha
        How far to walk; MUSE tries powers of two up to 512.
    legacy_muse
        Subtract in bfloat16, as MUSE's released code does.
    """

    alpha: float = number(1.0, -1, 1024)
    legacy_muse: bool = switch(False)


def moved(target: Tensor, reinforced: Tensor, parameters: TaskVectorParameters) -> Tensor:
    """Return one tensor of the result, in the target's dtype; of whole numbers, the target."""
    alpha = parameters.alpha
    if not target.is_floating_point() or alpha == 0:
        return target
    if alpha == -1:
        return reinforced.to(target.dtype)
    kind = torch.float64 if target.dtype == torch.float64 else torch.float32
    kind = torch.bfloat16 if parameters.legacy_muse else kind
    base = target.to(kind)
    return (base - alpha * (reinforced.to(kind) - base)).to(target.dtype)


@torch.no_grad()
def subtract(module: nn.Module, reinforced: nn.Module, parameters: TaskVectorParameters) -> None:
    """Move a module's weights, in place; tied ones once.

    Raises
    ------
    FailedPrecondition
        TASK_VECTOR_MISMATCH: the modules do not have the same parameters.
    """
    ours, theirs = dict(module.named_parameters()), dict(reinforced.named_parameters())
    _require_same({n: w.shape for n, w in ours.items()}, {n: w.shape for n, w in theirs.items()})
    for name, weight in ours.items():
        weight.copy_(moved(weight, theirs[name].to(weight.device), parameters))


def subtract_folders(
    target: Path, reinforced: Path, out: Path, parameters: TaskVectorParameters, progress: Progress
) -> None:
    """Write the weights of a task vector's result, a tensor at a time: memory is that of the largest.

    Parameters
    ----------
    target, reinforced
        Folders with safetensors. They may be split into files in different ways.
    out
        A folder that exists; gets files of the names of the target's, and its index if it has one. Config and tokenizer
        are the caller's to copy.
    parameters
        How far.
    progress
        Told of every tensor.

    Raises
    ------
    InvalidArgument
        MODEL_INVALID, MODEL_PICKLED: a folder's weights cannot be read.
    FailedPrecondition
        TASK_VECTOR_MISMATCH: the folders do not hold the same tensors.
    """
    ours, theirs = stored_tensors(target), stored_tensors(reinforced)
    _require_same({n: t.shape for n, t in ours.items()}, {n: t.shape for n, t in theirs.items()})
    done = 0
    for source in weight_files(target):
        tensors = sorted((t for t in ours.values() if t.file == source), key=lambda t: t.start)
        with open(out / source.name, "wb") as file:
            # Names, dtypes and shapes stay, so the header does, byte for byte, and every tensor keeps its place.
            file.write(_header(source))
            for tensor in tensors:
                progress.step(done, len(ours), "subtracting")
                result = moved(_read(tensor), _read(theirs[tensor.name]), parameters)
                file.write(result.contiguous().reshape(-1).view(torch.uint8).numpy().data)
                done += 1
    for index in target.glob("*.safetensors.index.json"):
        (out / index.name).write_bytes(index.read_bytes())
    progress.step(done, len(ours), "subtracting")


def _header(file: Path) -> bytes:
    with file.open("rb") as source:
        length = source.read(8)
        return length + source.read(int.from_bytes(length, "little"))


def _read(tensor: StoredTensor) -> Tensor:
    with safe_open(tensor.file, framework="pt") as file:
        return file.get_tensor(tensor.name)


def _require_same(ours: Mapping[str, object], theirs: Mapping[str, object]) -> None:
    differing = sorted(n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n))
    if differing:
        message = (
            f"The reinforced model is not the target trained further: {len(differing)} tensors are missing or of "
            f"another shape, the first {differing[0]!r}. Train it from this target, with tied weights left tied."
        )
        raise FailedPrecondition(Reason.TASK_VECTOR_MISMATCH, message)
