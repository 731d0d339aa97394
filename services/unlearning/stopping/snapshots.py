"""Weights of a few steps of a run, kept until it is known which of them is the result."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from palimpsest.disk import file_sha256
from palimpsest.errors import DataLoss, Reason


class Snapshots:
    """Copies of a module's trainable parameters, by step: in memory, or as files that outlive the process.

    Parameters
    ----------
    folder
        Where the files are, made if missing; None: in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._memory: dict[int, dict[str, Tensor]] = {}
        self._digests: dict[int, str] = {}

    @property
    def steps(self) -> set[int]:
        """Steps of which weights are kept."""
        return set(self._digests)

    @property
    def digests(self) -> dict[int, str]:
        """SHA-256 of each file by its step, empty strings in memory: what :meth:`adopt` takes."""
        return dict(self._digests)

    def keep(self, step: int, module: nn.Module) -> None:
        """Copy the parameters that require gradients."""
        weights = {
            name: parameter.detach().clone().contiguous()
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }
        if self._folder is None:
            self._memory[step], self._digests[step] = weights, ""
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = self._folder / f".{self._path(step).name}.partial"
        save_file({name: weight.cpu() for name, weight in weights.items()}, partial)
        self._digests[step] = file_sha256(partial)
        partial.rename(self._path(step))

    def weights(self, step: int) -> Mapping[str, Tensor]:
        """Return the parameters of a step, by name; not to be written to.

        Raises
        ------
        DataLoss
            CHECKPOINT_DAMAGED: the file is gone, or not as it was written.
        """
        if step in self._memory:
            return self._memory[step]
        path = None if self._folder is None else self._path(step)
        if path is None or not path.is_file() or file_sha256(path) != self._digests[step]:
            message = f"The weights of step {step} are gone or damaged; start the run again."
            raise DataLoss(Reason.CHECKPOINT_DAMAGED, message)
        return load_file(path)

    def drop_all_but(self, steps: Iterable[int]) -> None:
        """Forget the weights of other steps."""
        for step in self.steps - set(steps):
            del self._digests[step]
            self._memory.pop(step, None)
            if self._folder is not None:
                self._path(step).unlink(missing_ok=True)

    def adopt(self, digests: Mapping[int, str]) -> None:
        """Go on with the files of an earlier attempt."""
        self._digests = dict(digests)

    def _path(self, step: int) -> Path:
        assert self._folder is not None
        return self._folder / f"step-{step:09d}.safetensors"
