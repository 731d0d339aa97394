"""Algorithms of removal from weights: each by its formula, with an objective that ``palimpsest.training`` minimises."""

from services.unlearning.algorithms.algorithm import Algorithm
from services.unlearning.algorithms.inputs import Inputs
from services.unlearning.algorithms.registry import ALGORITHMS, algorithm, build

__all__ = ["ALGORITHMS", "Algorithm", "Inputs", "algorithm", "build"]
