"""Commands that store, load and measure KV caches: ``palimpsest kv``."""
