"""One run on several devices: every rank trains on its share of each batch, and all end with the same weights.

Each rank is a process with a copy of the model. A step's loss is a sum over the examples of the whole batch, divided by
what the whole batch has (its counted tokens); a rank's loss is its own examples' part of that sum. So gradients are
added, never averaged: the update is that of one device, whatever lengths the examples have and however many fall to a
rank. AdamW then does the same on every rank.

A rank that leaves says so in the next exchange, and the others raise instead of waiting; one that is killed closes its
connections. Numbers and text go over gloo, gradients over NCCL where the devices are GPUs. Nothing is pickled.
"""

import contextlib
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from palimpsest.training.recipe import Recipe

_PATIENCE = timedelta(days=1)
"""Longest wait for a rank that is alive: rank 0 validates and writes states while the others wait."""
_BUCKET = 1 << 25
"""Bytes of gradients that are exchanged at once."""


class RankLost(Exception):
    """Another rank of the run has failed or was killed."""


class Ranks:
    """The processes of one run.

    Parameters
    ----------
    rank, size
        Which this one is, from 0, and how many there are.
    numbers, tensors
        Groups of all of them, for tensors on the CPU and for tensors where the model is; they may be one.
    """

    def __init__(self, rank: int, size: int, numbers: dist.ProcessGroup, tensors: dist.ProcessGroup) -> None:
        self.rank, self.size = rank, size
        self._numbers, self._tensors = numbers, tensors
        self._width, self._over = 0, False

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which alone reports, validates and writes states."""
        return self.rank == 0

    def summed(
        self, weights: Mapping[str, nn.Parameter], loss: float, examples: int, expected: int
    ) -> float | None:
        """Add the gradients and the losses of all ranks, after each has computed its own.

        Parameters
        ----------
        weights
            What trains. Afterwards the ranks have equal gradients; those that no rank has stay None.
        loss, examples
            This rank's part of the step's loss, and the examples it is of.
        expected
            Examples of the step.

        Returns
        -------
        float or None
            The step's loss; None where rank 0 has ended the run instead.

        Raises
        ------
        RankLost
            Another rank has failed.
        RuntimeError
            The ranks have not trained on the step's examples, each once.
        """
        parameters = list(weights.values())
        has = [float(weight.grad is not None) for weight in parameters]
        found = self._exchange([0.0, 0.0, loss, float(examples), *has])
        if found is None:
            return None
        total, seen, *anywhere = found
        if seen != expected:
            raise RuntimeError(
                f"{self.size} ranks have trained on {seen:.0f} examples of a step's {expected}."
            )
        self._over = True  # a failure within the exchange of gradients is told by the connection that closes
        wanted = [weight for weight, ranks in zip(parameters, anywhere, strict=True) if ranks]
        for weight in wanted:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        for bucket in _buckets([weight.grad for weight in wanted if weight.grad is not None]):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            with self._losing():
                dist.all_reduce(flat, group=self._tensors)
            for gradient, part in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                gradient.copy_(part.view_as(gradient))
        self._over = False
        return total

    def begin(
        self,
        weights: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        recipe: Recipe,
        facts: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Give every rank the weights, the moments and the facts that rank 0 begins or goes on with.

        Returns
        -------
        dict
            Rank 0's facts, through JSON.

        Raises
        ------
        RuntimeError
            This rank has another recipe than rank 0.
        """
        kept = {name: sorted(optimizer.state.get(weight, {})) for name, weight in weights.items()}
        told = self._text({"facts": facts, "moments": kept, "recipe": recipe.facts()})
        if Recipe.of(told["recipe"]) != recipe:
            raise RuntimeError("The ranks of a run have different recipes.")
        for name, weight in weights.items():
            self._copied(weight.detach(), self._tensors)
            for kind in told["moments"][name]:
                state = optimizer.state[weight]
                if kind == "step":  # AdamW counts on the CPU
                    self._copied(state.setdefault(kind, torch.zeros(())), self._numbers)
                else:
                    self._copied(state.setdefault(kind, torch.zeros_like(weight.detach())), self._tensors)
        self._width = 4 + len(weights)
        return told["facts"]

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Within it the run goes on; if it ends with an exception, the other ranks are told before it passes."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(RankLost):
                self._leave(failed=True)
            raise
        self._leave(failed=False)

    def _leave(self, failed: bool) -> None:
        """Take part in one exchange more, whichever the others are at, unless there is none."""
        if self._width and not self._over:
            self._exchange([float(failed), float(not failed)])

    def _exchange(self, values: Sequence[float]) -> list[float] | None:
        """Add numbers over all ranks. The first two say that a rank has failed, and that it has ended."""
        given = torch.zeros(self._width, dtype=torch.float64)
        given[: len(values)] = torch.tensor(values, dtype=torch.float64)
        with self._losing():
            dist.all_reduce(given, group=self._numbers)
        failed, ended, *sums = given.tolist()
        self._over = bool(failed or ended)
        if failed and not values[0]:
            raise RankLost("Another rank of the run has failed.")
        return None if self._over else sums

    def _text(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        data = json.dumps(facts).encode() if self.leads else b""
        size = torch.tensor([len(data), 0])
        self._copied(size, self._numbers)
        text = torch.zeros(int(size[0]), dtype=torch.uint8)
        if self.leads:
            text = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        self._copied(text, self._numbers)
        return json.loads(bytes(text.tolist()))

    def _copied(self, tensor: Tensor, group: dist.ProcessGroup) -> None:
        with self._losing():
            dist.broadcast(tensor, 0, group=group)

    @contextlib.contextmanager
    def _losing(self) -> Iterator[None]:
        """Say of a connection that was closed what it means."""
        try:
            yield
        except RuntimeError as error:  # torch's DistError among them
            self._over = True
            raise RankLost(f"A rank of the run is gone: {error}") from error


@contextlib.contextmanager
def joined(folder: Path, rank: int, size: int, device: torch.device) -> Iterator[Ranks]:
    """Meet the other ranks, which are processes of this machine, and leave them at the end.

    Only the loopback interface is used: there is no key that a stranger would need.

    Parameters
    ----------
    folder
        Empty, and the same for all ranks.
    rank, size
        Which this one is, from 0, and how many there are. It waits until all have come.
    device
        Where this rank's model is. Ranks on GPUs have one each.
    """
    with _loopback():
        store = dist.FileStore(str(folder / "ranks"), size)  # pyright: ignore[reportPrivateImportUsage]
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=_PATIENCE)
        try:
            numbers = tensors = dist.group.WORLD
            if device.type == "cuda":
                torch.cuda.set_device(device)
                tensors = dist.new_group(backend="nccl", timeout=_PATIENCE)
            assert isinstance(numbers, dist.ProcessGroup)
            assert isinstance(
                tensors, dist.ProcessGroup
            )  # new_group returns a number to those who are not in it
            yield Ranks(rank, size, numbers, tensors)
        finally:
            dist.destroy_process_group()


@contextlib.contextmanager
def _loopback() -> Iterator[None]:
    """Have both libraries listen where no other machine can reach them."""
    name = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")
    before = {key: os.environ.get(key) for key in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")}
    os.environ.update(dict.fromkeys(before, name))
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Gradients that are exchanged together: of one dtype, in their order, and not much more than a bucket holds."""
    bucket: list[Tensor] = []
    held = 0
    for gradient in gradients:
        if bucket and (held >= _BUCKET or gradient.dtype != bucket[0].dtype):
            yield bucket
            bucket, held = [], 0
        bucket.append(gradient)
        held += gradient.nbytes
    if bucket:
        yield bucket
