"""One adapter for each shard of the fine-tuning data, over weights that never saw any of it: removal that is exact.

A document is in one shard, and its shard's adapter is the only thing that was trained on it. To remove it, that adapter
is deleted and trained again without it, from the same start and with the same seeds (SISA: Bourtoule et al. 2021,
arXiv 1912.03817). On one thread the result has the bits of a model for which the document was never there.

::

    folder/shards.json                                the map: written first, so a removal that is interrupted is known
    folder/shard-007/adapter_model.safetensors        peft's format

What is served is the base with the adapters of all shards added: ``W + weight sum_s (alpha / rank) B_s A_s``.
"""

import hashlib
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import nn

from palimpsest.disk import replace_file, room_for, sync
from palimpsest.errors import DataLoss, FailedPrecondition, Reason
from palimpsest.progress import Progress
from palimpsest.training.adapters import remove, save_adapter
from palimpsest.training.batches import Example
from palimpsest.training.loop import train
from palimpsest.training.order import derived_seed
from palimpsest.training.recipe import LoraSettings, Recipe
from services.unlearning.algorithms.inputs import Inputs
from services.unlearning.algorithms.objective import retraining
from services.unlearning.algorithms.shards.map import ShardMap, by_shard

MAP = "shards.json"
WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."


@dataclass(frozen=True)
class ShardedAdapters:
    """Adapters of a folder. One process at a time changes them.

    Attributes
    ----------
    folder
        Where they are.
    recipe
        How each shard is trained; ``adapter`` is set. Its seed and steps are replaced, see ``epochs``.
    epochs
        Passes over a shard's examples.
    pad
        Token id that fills rows up.
    """

    folder: Path
    recipe: Recipe
    epochs: int
    pad: int = 0

    @property
    def map(self) -> ShardMap:
        """What the folder says of itself.

        Raises
        ------
        InvalidArgument
            SHARDS_INVALID.
        """
        return ShardMap.from_json((self.folder / MAP).read_text())

    def create(
        self, module: nn.Module, examples: Sequence[Example], count: int, seed: int, progress: Progress
    ) -> ShardMap:
        """Assign documents to ``count`` shards and train every shard.

        Parameters
        ----------
        module
            The base, without an adapter; it is left as it is.
        examples
            All fine-tuning data; ``name`` is the document's id.
        count, seed
            Shards, and what decides everything random.
        progress
            Told of every step of every shard; may raise to stop. ``complete`` goes on.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write(ShardMap(count, seed).adding(example.name for example in examples))
        return self.complete(module, examples, progress)

    def remove(
        self, documents: Iterable[str], module: nn.Module, examples: Sequence[Example], progress: Progress
    ) -> ShardMap:
        """Remove documents: delete the adapters of their shards and train those again without them.

        The adapters are gone before anything is trained. Where training is interrupted, ``complete`` goes on.

        Parameters
        ----------
        documents
            Ids.
        module
            The base, as in :meth:`create`.
        examples
            The data that stays, at least of the shards concerned. Examples of removed documents are left out.
        progress
            As in :meth:`create`.

        Raises
        ------
        FailedPrecondition
            SHARD_DOCUMENT_UNKNOWN: no shard holds one of them. ALGORITHM_INPUT_MISSING: examples of a document that
            stays are not there.
        """
        left = self.map.without(documents)
        self._require_data(left, examples)
        self._write(left)
        return self.complete(module, examples, progress)

    def complete(self, module: nn.Module, examples: Sequence[Example], progress: Progress) -> ShardMap:
        """Train the shards that have documents and no adapter: what ``create`` and ``remove`` have not finished."""
        shards = self.map
        self._require_data(shards, examples)
        self._sweep(shards)
        groups = by_shard(examples, shards)
        for shard in shards.pending:
            digest = self._train(module, groups[shard], shard, shards.seed, progress)
            shards = shards.trained(shard, digest)
            self._write(shards)
        return shards

    @torch.no_grad()
    def add_to(self, module: nn.Module, weight: float = 1.0) -> None:
        """Add the adapters of all shards to a base's weights, in place.

        Raises
        ------
        FailedPrecondition
            SHARDS_INVALID: some shards are to be trained first.
        DataLoss
            SHARDS_INVALID: an adapter's file is not the one that was written.
        """
        shards = self.map
        if shards.pending:
            message = f"Shards {shards.pending} are to be trained again. Complete the removal first."
            raise FailedPrecondition(Reason.SHARDS_INVALID, message)
        for shard in sorted(shards.digests):
            file = self._of(shard) / WEIGHTS
            if not file.is_file() or _digest(file) != shards.digests[shard]:
                message = f"{file} is not the adapter that was trained. Remove the folder and train the shards again."
                raise DataLoss(Reason.SHARDS_INVALID, message)
            tensors = load_file(file)
            for name in sorted(n for n in tensors if n.endswith(".lora_A.weight")):
                path = name.removesuffix(".lora_A.weight")
                down, up = tensors[name], tensors[f"{path}.lora_B.weight"]  # [rank, inputs], [outputs, rank]
                layer = cast(Any, module.get_submodule(path.removeprefix(_PREFIX)))
                change = weight * self._settings.scale / self._settings.rank * (up @ down)
                layer.weight.add_((change.T if type(layer).__name__ == "Conv1D" else change).to(layer.weight))

    @property
    def _settings(self) -> LoraSettings:
        assert self.recipe.adapter is not None
        return self.recipe.adapter

    def _of(self, shard: int) -> Path:
        return self.folder / f"shard-{shard:03d}"

    def _train(
        self, module: nn.Module, examples: Sequence[Example], shard: int, seed: int, progress: Progress
    ) -> str:
        """Train one shard from the base; returns the digest of its adapter. The module is the base again afterwards."""
        own = derived_seed(seed, "shard", shard)
        inputs = Inputs(module, (), examples, batch=self.recipe.batch, seed=own, pad=self.pad)
        steps = self.epochs * -(-len(examples) // self.recipe.batch)
        required = [(weight, weight.requires_grad) for weight in module.parameters()]
        fresh = self.folder / f".shard-{shard:03d}"
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            train(module, retraining(inputs), replace(self.recipe, steps=steps, seed=own), progress=progress)
            save_adapter(module, fresh)
        finally:
            remove(module)
            for weight, wanted in required:
                weight.requires_grad_(wanted)
        shutil.rmtree(self._of(shard), ignore_errors=True)
        fresh.rename(self._of(shard))
        sync(self.folder)
        return _digest(self._of(shard) / WEIGHTS)

    def _sweep(self, shards: ShardMap) -> None:
        """Delete the adapters that the map does not name."""
        named = {self._of(shard).name for shard in shards.digests}
        for folder in [*self.folder.glob("shard-*"), *self.folder.glob(".shard-*")]:
            if folder.name not in named:
                shutil.rmtree(folder)
        sync(self.folder)

    def _require_data(self, shards: ShardMap, examples: Sequence[Example]) -> None:
        there = {example.name for example in examples}
        missing = [name for shard in shards.pending for name in shards.of_shard(shard) if name not in there]
        if missing:
            message = (
                f"{len(missing)} documents of shards that are to be trained again are not in the data, the first "
                f"{missing[0]!r}. Give them, or remove them too."
            )
            raise FailedPrecondition(Reason.ALGORITHM_INPUT_MISSING, message)

    def _write(self, shards: ShardMap) -> None:
        with room_for(f"the shards in {self.folder}"):
            replace_file(self.folder / MAP, shards.to_json())
            sync(self.folder / MAP)
            sync(self.folder)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
