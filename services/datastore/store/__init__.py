"""A corpus on disk: logs, segments, manifest; written, read, compacted, purged."""
