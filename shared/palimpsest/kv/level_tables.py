"""How the levels of a calibration profile quantise and code: steps, scales and frequency tables."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from palimpsest.kv.coding.tables import ALPHABET, Tables


@dataclass(frozen=True)
class LevelTables:
    """How one level quantises and codes the coefficients.

    Parameters
    ----------
    step
        Width of a quantisation cell, in weighted units: one number for all coefficients, which spends bits where
        they matter (reverse water-filling).
    kept
        ``[2, groups]`` int: coefficients coded for keys and values of each group; the rest are always zero.
    classes
        ``[2, groups, width]`` uint8: the table of each coefficient.
    frequencies
        ``[tables, 256]`` uint16, integers so that every machine decodes alike. Symbol 128 is zero, 0 an escape.
    centres
        ``[tables, 256]`` float32: where in its cell a symbol is reconstructed, as a multiple of the step.
    """

    step: float
    kept: np.ndarray
    classes: np.ndarray
    frequencies: np.ndarray
    centres: np.ndarray

    @cached_property
    def tables(self) -> Tables:
        """The frequencies, ready for coding."""
        return Tables(self.frequencies)

    def check(self, room: np.ndarray, width: int) -> None:
        """Check that the parts fit each other.

        Parameters
        ----------
        room
            ``[2, groups]`` int: coefficients of keys and values of each group.
        width
            Largest number of coefficients of a group.

        Raises
        ------
        ValueError
            They do not.
        """
        tables = len(self.frequencies)
        fits = (
            self.kept.shape == room.shape
            and self.classes.shape == (*room.shape, width)
            and self.frequencies.shape == self.centres.shape == (tables, ALPHABET)
            and bool(np.isfinite(self.centres).all())
        )
        bounded = 0 < self.step < math.inf and (self.kept >= 0).all() and (self.kept <= room).all()
        if not fits or not bounded or self.classes.max() >= tables:
            raise ValueError("a level's tables do not fit")
        if not self.frequencies.all():
            raise ValueError("a level's tables leave out symbols")
        _ = self.tables


@dataclass(frozen=True)
class ClassicTables:
    """Scales and tables of the paper's own scheme (section 5.2), per layer and channel.

    Parameters
    ----------
    mean, anchor_scale, delta_scale
        ``[2, layers, width]`` float32: mean, step of the 8-bit anchors, deviation of the deltas.
    levels
        For each level: multiple of the paper's bins, ``[2 kinds, 2, layers, width]`` uint8 classes with kind 0 the
        anchors, and their frequencies.
    """

    mean: np.ndarray
    anchor_scale: np.ndarray
    delta_scale: np.ndarray
    levels: "dict[str, tuple[float, np.ndarray, np.ndarray]]"

    @cached_property
    def tables(self) -> dict[str, Tables]:
        """The frequencies of each level, ready for coding."""
        return {name: Tables(level[2]) for name, level in self.levels.items()}

    def check(self, layers: int, width: int) -> None:
        """Check that the parts fit each other and a model of this shape; ValueError if they do not."""
        shape = (2, layers, width)
        for part, least in ((self.mean, -math.inf), (self.anchor_scale, 0), (self.delta_scale, 0)):
            if part.shape != shape or not (np.isfinite(part) & (part > least)).all():
                raise ValueError("a classic mean or scale of the wrong shape or not finite")
        for scale, classes, frequencies in self.levels.values():
            if not 0 < scale < math.inf or classes.shape != (2, *shape) or not frequencies.all():
                raise ValueError("the classic tables do not fit")
            if classes.max() >= len(frequencies):
                raise ValueError("the classic tables do not fit")
        _ = self.tables
