"""Keys and values of one sequence, in blocks of a pool."""

from collections.abc import Sequence

import torch

from palimpsest.errors import Reason, ResourceExhausted
from palimpsest.lm.blocks import BLOCK, BlockPool


class PagedCache:
    """Keys and values of one sequence, in blocks of a pool.

    Made by :meth:`LanguageModel.new_cache`; give the blocks back with :meth:`release`.
    """

    def __init__(self, pool: BlockPool) -> None:
        self.pool = pool
        self.length = 0
        self._blocks: list[int] = []

    @property
    def blocks(self) -> list[int]:
        """Block numbers, in order of position."""
        return self._blocks

    def extend(self, tokens: int) -> None:
        """Make room for new tokens after the present ones, copying a shared last block first.

        Raises
        ------
        ResourceExhausted
            The pool has no block left; nothing has changed then, apart from blocks already made private.
        """
        last = self.length // BLOCK
        for n in range(last, len(self._blocks)):
            if self.pool.is_shared(self._blocks[n]):
                self._blocks[n] = self.pool.copy(self._blocks[n])
        need = -(-(self.length + tokens) // BLOCK) - len(self._blocks)
        if need > self.pool.available:
            raise ResourceExhausted(
                Reason.ENGINE_MEMORY_FULL, "The cache for keys and values is full; finish or drop sequences."
            )
        self._blocks.extend(self.pool.take() for _ in range(need))
        self.length += tokens

    def branch(self) -> "PagedCache":
        """A sequence with the same past; memory is shared until either writes."""
        twin = PagedCache(self.pool)
        twin.length, twin._blocks = self.length, list(self._blocks)
        for block in twin._blocks:
            self.pool.hold(block)
        return twin

    def crop(self, length: int) -> None:
        """Forget the tokens from position ``length`` on."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot crop a cache of {self.length} tokens to {length}")
        keep = -(-length // BLOCK)
        for block in self._blocks[keep:]:
            self.pool.drop(block)
        del self._blocks[keep:]
        self.length = length

    def release(self) -> None:
        """Give all blocks back."""
        self.crop(0)

    def adopt(self, keys: Sequence[bytes]) -> int:
        """Take over blocks the prefix index has for the keys that follow the present whole blocks.

        Returns
        -------
        int
            Tokens found. 0 where the sequence does not end on a block boundary.
        """
        if self.length % BLOCK:
            return 0
        found = 0
        for key in keys[self.length // BLOCK :]:
            block = self.pool.find(key)
            if block is None:
                break
            self.pool.hold(block)
            self._blocks.append(block)
            self.length += BLOCK
            found += BLOCK
        return found

    def file(self, keys: Sequence[bytes]) -> None:
        """Enter the sequence's first ``len(keys)`` blocks in the prefix index."""
        for key, block in zip(keys, self._blocks, strict=False):
            self.pool.file(key, block)

    def _numbers(self, first: int, last: int) -> torch.Tensor:
        return torch.tensor(self._blocks[first:last], dtype=torch.long, device=self.pool.keys.device)

    def gather(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of one layer, each [kv_heads, tokens, head_dim], copied together."""
        table = self._numbers(0, -(-self.length // BLOCK))
        k = self.pool.keys[layer][table].permute(1, 0, 3, 2).flatten(1, 2)[:, : self.length]
        v = self.pool.values[layer][table].permute(1, 0, 2, 3).flatten(1, 2)[:, : self.length]
        return k, v

    def export(self, start: int = 0, stop: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Copy keys and values out.

        Parameters
        ----------
        start, stop
            Positions, ``stop`` not included; None for the end.

        Returns
        -------
        tuple of torch.Tensor
            Keys (with rotary positions applied) and values, each [layers, kv_heads, tokens, head_dim].
        """
        stop = self.length if stop is None else stop
        if not 0 <= start <= stop <= self.length:
            raise ValueError(f"positions {start}..{stop} are not within the cache's {self.length} tokens")
        first, last = start // BLOCK, -(-stop // BLOCK)
        table = self._numbers(first, last)
        k = self.pool.keys[:, table].permute(0, 2, 1, 4, 3).flatten(2, 3)
        v = self.pool.values[:, table].permute(0, 2, 1, 3, 4).flatten(2, 3)
        offset = start - first * BLOCK
        window = slice(offset, offset + stop - start)
        return k[:, :, window].contiguous(), v[:, :, window].contiguous()

    @property
    def can_crop(self) -> bool:
        """Whether tokens can be taken out again: always."""
        return True

    def accepts(self, keys: torch.Tensor, values: torch.Tensor) -> bool:
        """Whether :meth:`load` can append these: where they have the pool's layers, heads and head size."""
        layers, _, heads, dim, _ = self.pool.keys.shape
        shape = (layers, heads, keys.shape[2], dim)
        return tuple(keys.shape) == shape and tuple(values.shape) == shape

    def join(self, other: "PagedCache") -> None:
        """Append another sequence, which is left empty: its blocks change hands, and nothing is copied.

        Raises
        ------
        ValueError
            This sequence does not end on a block boundary.
        """
        if self.length % BLOCK:
            raise ValueError(f"a sequence of {self.length} tokens ends within a block of {BLOCK}")
        self._blocks += other._blocks
        self.length += other.length
        other.length, other._blocks = 0, []

    def load(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Append keys and values, each [layers, kv_heads, tokens, head_dim], after the present tokens."""
        pool = self.pool
        if not self.accepts(keys, values):
            layers, _, heads, dim, _ = pool.keys.shape
            raise ValueError(
                f"keys and values must be [{layers}, {heads}, tokens, {dim}], are {list(keys.shape)}, "
                f"{list(values.shape)}"
            )
        start = self.length
        self.extend(keys.shape[2])
        positions = torch.arange(start, self.length, device=pool.keys.device)
        table = self._numbers(0, len(self._blocks))
        blocks, lanes = table[positions // BLOCK], positions % BLOCK
        pool.keys[:, blocks, :, :, lanes] = keys.to(pool.keys).permute(2, 0, 1, 3)
        pool.values[:, blocks, :, lanes] = values.to(pool.values).permute(2, 0, 1, 3)

    def write(self, layer: int, start: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Store one layer's new keys and values, each [tokens, kv_heads, head_dim], from position ``start`` on."""
        positions = torch.arange(start, start + keys.shape[0], device=keys.device)
        blocks, lanes = self._numbers(0, len(self._blocks))[positions // BLOCK], positions % BLOCK
        self.pool.keys[layer][blocks, :, :, lanes] = keys.to(self.pool.keys.dtype)
        self.pool.values[layer][blocks, :, lanes] = values.to(self.pool.values.dtype)
