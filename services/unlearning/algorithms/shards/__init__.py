"""Fine-tuning data in shards, an adapter for each: what holds a document can be thrown away and made again."""

from services.unlearning.algorithms.shards.adapters import ShardedAdapters
from services.unlearning.algorithms.shards.map import ShardMap, shard_of

__all__ = ["ShardMap", "ShardedAdapters", "shard_of"]
