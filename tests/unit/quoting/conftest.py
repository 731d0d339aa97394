"""The tiny model, and engines over it, as the engine's own tests have them."""

from tests.unit.models_in_memory import _one_thread, make_engine, tiny

__all__ = ["_one_thread", "make_engine", "tiny"]
