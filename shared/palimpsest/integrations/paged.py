"""vLLM's paged cache of one layer, in the layouts it has had, read and written by position."""

from collections.abc import Sequence

import torch

from palimpsest.errors import Reason, Unimplemented


class PagedLayer:
    """One layer's paged buffer.

    Parameters
    ----------
    buffer
        Packed, since vLLM 0.26: ``[blocks, kv_heads, size, 2 * dim]``, keys before values in the last dimension. Split,
        before that: ``[2, blocks, size, kv_heads, dim]`` or ``[blocks, 2, size, kv_heads, dim]``. These are the logical
        shapes; strides may be any.
    block_size
        Tokens of a block as the scheduler counts them; kernels may have cut blocks into smaller ones.
    blocks
        Blocks as the scheduler counts them, to tell the two split layouts apart where there are only two blocks.

    Raises
    ------
    Unimplemented
        A layout that is neither: latent attention, states, or quantised elements.
    """

    def __init__(self, buffer: torch.Tensor, block_size: int, blocks: int | None = None) -> None:
        if not isinstance(buffer, torch.Tensor):  # states come as lists
            raise Unimplemented(Reason.KV_LAYER_UNSUPPORTED, "A layer keeps a state instead of positions.")
        if buffer.ndim == 4 and buffer.shape[3] % 2 == 0:
            self._keys, self._values = buffer.transpose(1, 2).chunk(2, -1)  # [blocks, size, heads, dim]
        elif buffer.ndim == 5 and buffer.shape[0] == 2 and not (buffer.shape[1] == 2 and blocks != 2):
            self._keys, self._values = buffer.unbind(0)
        elif buffer.ndim == 5 and buffer.shape[1] == 2:
            self._keys, self._values = buffer.unbind(1)
        else:
            raise Unimplemented(
                Reason.KV_LAYER_UNSUPPORTED, f"A paged cache of shape {list(buffer.shape)} is not known."
            )
        if not buffer.is_floating_point() or buffer.dtype.itemsize < 2 or block_size % self._keys.shape[1]:
            raise Unimplemented(
                Reason.KV_LAYER_UNSUPPORTED,
                f"A paged cache of {buffer.dtype} in blocks of {self._keys.shape[1]} tokens, "
                f"with {block_size} to a block of the scheduler's, is not known.",
            )
        self._block_size = block_size

    @property
    def shape(self) -> tuple[int, int, int]:
        """Heads, and elements of one head's keys and values."""
        return self._keys.shape[2], self._keys.shape[3], self._values.shape[3]

    def _slots(self, blocks: Sequence[int], first: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return which of the kernel's blocks, and where in it, positions ``first .. first + count - 1`` lie."""
        size, device = self._keys.shape[1], self._keys.device
        positions = torch.arange(first, first + count)
        table = torch.tensor(list(blocks))
        slots = table[positions // self._block_size] * self._block_size + positions % self._block_size
        return (slots // size).to(device), (slots % size).to(device)

    def gather(self, blocks: Sequence[int], first: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return copies of keys and values of consecutive positions, each ``[kv_heads, count, dim]``.

        Parameters
        ----------
        blocks
            The request's block table, from its first position on.
        first, count
            The positions.
        """
        where = self._slots(blocks, first, count)
        return self._keys[where].transpose(0, 1), self._values[where].transpose(0, 1)

    def scatter(self, blocks: Sequence[int], first: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Write keys and values ``[kv_heads, count, dim]`` at consecutive positions."""
        where = self._slots(blocks, first, keys.shape[1])
        for into, part in ((self._keys, keys), (self._values, values)):
            into[where] = part.transpose(0, 1).to(into)
