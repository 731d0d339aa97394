"""Memory for keys and values: blocks of 16 tokens, counted references, prompt prefixes kept and found again.

::

    pool.keys    [layers, blocks, kv_heads, head_dim, 16]    tokens last: one vector holds a dimension of 16 keys
    pool.values  [layers, blocks, kv_heads, 16, head_dim]

A sequence holds a table of block numbers. Branches and equal prompt prefixes hold the same blocks; a block that
several hold is copied before one of them writes to it. Only whole blocks of prompts are entered in the prefix
index, under a hash of a salt and all tokens up to their end: who shares a salt shares prefixes. Blocks that no
sequence holds stay there until memory is needed, the least recently used going first.
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

    Parameters
    ----------
    ids
        Token ids.
    salt
        Goes into the first block's hash, and through it into every other.

    Returns
    -------
    list of bytes
        One key per whole block: equal keys mean an equal salt and equal tokens from the very start.
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
        Number of blocks.
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
        """Blocks available now: free ones, and indexed prefixes that no sequence holds."""
        return len(self._free) + len(self._idle)

    @property
    def used(self) -> int:
        """Blocks held by sequences."""
        return self.blocks - self.available

    def is_shared(self, block: int) -> bool:
        """Whether another sequence or the prefix index also reads this block, which must then not be written."""
        return self._references[block] > 1 or block in self._key_of

    def take(self) -> int:
        """Allocate a private block.

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
        """Drop a reference; the last one frees the block, or leaves it idle in the prefix index."""
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
        """How many leading blocks the index has, under plain keys as far as possible and salted keys from there on."""
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
        """Empty the prefix index; sequences keep the blocks they hold."""
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
