"""The deployables: one folder per room, run as ``python -m services.<room>``."""
