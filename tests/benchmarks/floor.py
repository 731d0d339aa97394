"""The floor of a compiled step: every matrix of the model multiplied once, and nothing else."""


# pyright: reportArgumentType=false, reportCallIssue=false

from typing import Any

import numba
import numpy as np
import torch

from palimpsest.lm.cpu import descriptor as d
from palimpsest.lm.cpu.descriptor import CHUNKS, LOGITS, ROWS, X
from palimpsest.lm.cpu.forward import CompiledForward
from palimpsest.lm.cpu.operators import product
from palimpsest.lm.cpu.step import barrier, enter, finish, leave, take
from palimpsest.lm.cpu.tiles import CHUNK


class Floor:
    """Runs the products of one compiled pass, in its thread pool.

    Parameters
    ----------
    forward
        The pass; not in use meanwhile.
    """

    def __init__(self, forward: CompiledForward) -> None:
        self._forward = forward
        matrices = forward.weights.matrices
        self._matrices = np.array([[m.data_ptr(), *m.shape] for m in matrices], dtype=np.int64)
        self._x = torch.ones(8, max(m.shape[1] for m in matrices))
        self._y = torch.zeros(8, forward.weights.vocab)

    def __call__(self, rows: int = 1) -> None:
        """Multiply every matrix with ``rows`` rows, at most 8."""
        forward: Any = self._forward  # its workings: the pass is not run, only its threads and buffers
        forward._threads.wait_idle()
        desc = forward._descriptor.copy()
        desc[[d.ROWS, d.X, d.LOGITS]] = rows, self._x.data_ptr(), self._y.data_ptr()
        forward._sync[:] = 0
        forward._arrays = (desc,)
        forward._threads.run(
            read_weights,
            forward._like,
            self._matrices,
            desc,
            forward._sync.ctypes.data,
            forward._threads.flags,
        )


@numba.njit(nogil=True, cache=True)
def read_weights(thread, ticket, like, matrices, desc, sync, flags):
    """The floor: multiply every matrix once with one row and do nothing else. For benchmarks."""
    if not enter(thread, ticket, flags.ctypes.data):
        return
    for m in range(len(matrices)):
        n, k = matrices[m, 1], matrices[m, 2]
        step = max(CHUNK, n // (CHUNK * desc[CHUNKS]) * CHUNK)
        chunks = (n + step - 1) // step
        c = take(sync, m)
        while c < chunks:
            last = min(n, (c + 1) * step)
            product(like, matrices[m, 0], k * like.itemsize, desc[X], k * 4, desc[LOGITS], n * 4, k, c * step, last,
                    desc[ROWS], False)  # fmt: skip
            finish(sync, m)
            c = take(sync, m)
        barrier(sync, m, chunks)
    leave(thread, ticket, flags.ctypes.data)
