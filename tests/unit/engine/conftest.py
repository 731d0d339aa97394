"""The tiny model in memory, and engines over it."""

from tests.unit.models_in_memory import _one_thread, make_engine, tiny

__all__ = ["_one_thread", "make_engine", "tiny"]
