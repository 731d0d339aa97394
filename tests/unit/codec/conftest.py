"""Engines over the tiny model."""

from tests.unit.models_in_memory import _one_thread

__all__ = ["_one_thread"]
