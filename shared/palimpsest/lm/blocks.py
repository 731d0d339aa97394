"""Memory for keys and values: blocks of 16 tokens, counted references, prompt prefixes kept and found again.

::

    pool.keys    [layers, blocks, kv_heads, head_dim, 16]    tokens last: one vector holds a dimension of 16 keys
    pool.values  [layers, blocks, kv_heads, 16, head_dim]

A sequence holds a table of block numbers. Branches and equal prompt prefixes hold the same blocks; a block that
several hold is copied before one of them writes to it. Only whole blocks of prompts are entered in the prefix
index, under a hash of all tokens up to their end; blocks that nobody holds stay there until memory is needed,
the least recently used going first.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch

from palimpsest.errors import Reason, ResourceExhausted

BLOCK = 16
"""Tokens per block."""


def prefix_keys(ids: Sequence[int], salt: bytes = b"") -> list[bytes]:
    """Hash of each prefix of ids that ends a whole block.

    Returns
    -------
    list of bytes
        One key per whole block: equal keys mean equal tokens from the very start.
    """
    tokens, keys, parent = np.asarray(ids, dtype=np.int64), [], salt
    for start in range(0, len(tokens) - BLOCK + 1, BLOCK):
        parent = hashlib.blake2b(parent + tokens[start : start + BLOCK].tobytes(), digest_size=16).digest()
        keys.append(parent)
    return keys


class BlockPool:
    """A fixed number of blocks for one model.

    Parameters
    ----------
    layers, kv_heads, head_dim
        Shape of the model's cache.
    blocks
        How many blocks there are.
    dtype, device
        Of the stored keys and values.
    """

    def __init__(
        self, layers: int, kv_heads: int, head_dim: int, blocks: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.keys = torch.empty(layers, blocks, kv_heads, head_dim, BLOCK, dtype=dtype, device=device)
        self.values = torch.empty(layers, blocks, kv_heads, BLOCK, head_dim, dtype=dtype, device=device)
        self.blocks = blocks
        self.block_bytes = 2 * layers * kv_heads * head_dim * BLOCK * self.keys.element_size()
        self._references = np.zeros(blocks, dtype=np.int32)
        self._free = list(range(blocks - 1, -1, -1))
        self._index: dict[bytes, int] = {}
        self._key_of: dict[int, bytes] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def available(self) -> int:
        """Blocks that can be had at once: free ones and prefixes nobody holds."""
        return len(self._free) + len(self._idle)

    @property
    def used(self) -> int:
        """Blocks held by sequences."""
        return self.blocks - self.available

    def is_shared(self, block: int) -> bool:
        """Whether others read this block: another sequence, or the prefix index. It must not be written then."""
        return self._references[block] > 1 or block in self._key_of

    def take(self) -> int:
        """A block of one's own.

        Raises
        ------
        ResourceExhausted
            Every block is held by some sequence.
        """
        if not self._free:
            if not self._idle:
                raise ResourceExhausted(
                    Reason.ENGINE_MEMORY_FULL,
                    "The cache for keys and values is full; finish or drop sequences.",
                )
            block, _ = self._idle.popitem(last=False)
            del self._index[self._key_of.pop(block)]
            self._free.append(block)
        block = self._free.pop()
        self._references[block] = 1
        return block

    def hold(self, block: int) -> None:
        """Add a reference to a block."""
        if self._references[block] == 0:
            del self._idle[block]
        self._references[block] += 1

    def drop(self, block: int) -> None:
        """Take a reference away; the last one frees the block, or leaves it idle in the prefix index."""
        self._references[block] -= 1
        if self._references[block]:
            return
        if block in self._key_of:
            self._idle[block] = None
        else:
            self._free.append(block)

    def find(self, key: bytes) -> int | None:
        """The block filed under a prefix key."""
        return self._index.get(key)

    def count(self, plain: Sequence[bytes], salted: Sequence[bytes]) -> int:
        """How many leading blocks are there, under plain keys as far as possible and salted ones from there on."""
        found = 0
        for keys in (plain, salted):
            while found < len(keys) and keys[found] in self._index:
                found += 1
        return found

    def file(self, key: bytes, block: int) -> None:
        """Enter a whole prompt block in the prefix index; the first one under a key stays."""
        if key not in self._index and block not in self._key_of:
            self._index[key] = block
            self._key_of[block] = key

    def forget_prefixes(self) -> None:
        """Empty the prefix index; blocks held by sequences stay theirs."""
        self._free.extend(self._idle)
        self._idle.clear()
        self._index.clear()
        self._key_of.clear()

    def copy(self, block: int) -> int:
        """A private copy of a block; the caller's reference moves to it."""
        target = self.take()
        self.keys[:, target] = self.keys[:, block]
        self.values[:, target] = self.values[:, block]
        self.drop(block)
        return target


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
