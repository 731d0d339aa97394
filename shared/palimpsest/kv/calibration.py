"""Learn a model's profile from sample caches: means, bases in which coefficients are independent, integer tables.

A pure function over caches that can be read twice. With a ``Sensitivity`` the basis weighs each direction by what an
error in it does to the model's predictions, so that one step for all coefficients is the best allocation of bits.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.kv.classic import calibrate_classic
from palimpsest.kv.coding.centres import NEAR, centres, count_offsets
from palimpsest.kv.coding.quantiser import ZERO, choose_classes, quantise
from palimpsest.kv.coding.tables import ALPHABET, frequencies_from_counts
from palimpsest.kv.layout import Geometry, KeyValues
from palimpsest.kv.level_tables import LevelTables
from palimpsest.kv.profile import CalibrationProfile
from palimpsest.kv.rotary import Rotary
from palimpsest.kv.transform import coefficients
from palimpsest.progress import NullProgress, Progress

LEVELS: Mapping[str, float] = {
    "near-lossless": 0.0025,
    "high": 0.005,
    "balanced": 0.01,
    "compact": 0.02,
    "smallest": 0.04,
}
"""Levels, finest first, and the divergence from the exact cache each is meant for, in nats a token."""
UNDERSTATED = 3.0
"""How far real divergence exceeds the quadratic prediction, on contexts longer than those it was measured on."""
PLAIN_STEPS: Mapping[str, float] = {
    "near-lossless": 0.3,
    "high": 0.45,
    "balanced": 0.6,
    "compact": 0.9,
    "smallest": 1.2,
}
"""Steps where no sensitivity is known, in deviations of a component of a layer."""
TABLES = 64
NEVER = 2e-4
"""A coefficient that leaves the zero cell less often than this is not coded."""


@dataclass(frozen=True)
class Sensitivity:
    """What errors in keys and values do to predictions: a quadratic form for each layer.

    Parameters
    ----------
    keys, values
        ``[layers, width, width]`` float64, keys un-rotated: ``e' S e / 2`` summed over tokens and layers predicts the
        divergence, in nats, of the next-token distribution when token errors are ``e``.
    tokens
        Length of the contexts it was measured on.
    """

    keys: torch.Tensor
    values: torch.Tensor
    tokens: int


def calibrate(
    caches: Iterable[KeyValues],
    *,
    rotary: Rotary,
    model: str = "",
    sensitivity: Sensitivity | None = None,
    group: int = 5,
    sinks: int = 4,
    classic: bool = True,
    progress: Progress | None = None,
) -> CalibrationProfile:
    """Learn a profile.

    Parameters
    ----------
    caches
        Sample contexts, read more than once: a list, or an object whose ``iter`` begins anew.
    rotary
        How the model turns its keys.
    model
        Fingerprint of the model, which the profile is then bound to.
    sensitivity
        From ``palimpsest.kv.sensitivity.measure``; None: every direction of a layer counts alike.
    group
        Layers coded together; all of them where the model has fewer.
    sinks
        Leading tokens kept apart.
    classic
        Whether to calibrate the paper's own scheme too.
    progress
        Called for each cache.

    Returns
    -------
    CalibrationProfile
        The same for the same caches on one machine.

    Raises
    ------
    InvalidArgument
        There are no caches, they differ in shape, or they are shorter than the sinks.
    """
    progress = progress or NullProgress()
    geometry = _geometry(caches, sinks)
    group = min(group, geometry.layers)
    groups = [(first, min(group, geometry.layers - first)) for first in range(0, geometry.layers, group)]
    means, covariances = _moments(caches, geometry, groups, rotary, sinks, progress)
    bases = tuple(
        [
            _basis(
                covariance := covariances[component][at],
                _weight(sensitivity, component, first, covariance, layers),
            )
            for at, (first, layers) in enumerate(groups)
        ]
        for component in (0, 1)
    )
    profile = CalibrationProfile(geometry, rotary, model, group, sinks, means, (bases[0], bases[1]), {}, None)
    steps = _steps(sensitivity, geometry)
    levels = _tables(caches, profile, steps, progress)
    paper = calibrate_classic(caches, geometry, sinks) if classic else None
    return CalibrationProfile(
        geometry, rotary, model, group, sinks, means, (bases[0], bases[1]), levels, paper
    )


def _geometry(caches: Iterable[KeyValues], sinks: int) -> Geometry:
    geometry: Geometry | None = None
    for kv in caches:
        if kv.tokens <= sinks or (geometry and kv.geometry != geometry):
            raise InvalidArgument(
                Reason.KV_CALIBRATION, "Calibration caches share one shape and are longer than the sinks."
            )
        geometry = kv.geometry
    if geometry is None:
        raise InvalidArgument(Reason.KV_CALIBRATION, "Calibration needs at least one cache.")
    return geometry


def _body(caches: Iterable[KeyValues], sinks: int) -> Iterator[KeyValues]:
    """Yield the caches without their sinks."""
    for kv in caches:
        yield kv[max(0, sinks - kv.start) :]


def _moments(
    caches: Iterable[KeyValues],
    geometry: Geometry,
    groups: list[tuple[int, int]],
    rotary: Rotary,
    sinks: int,
    progress: Progress,
) -> tuple[tuple[torch.Tensor, torch.Tensor], list[list[torch.Tensor]]]:
    """Return means, and the covariance matrix of each component's groups, in one pass."""
    widths = (geometry.key_width, geometry.value_width)
    sums = [[torch.zeros(n * w, dtype=torch.float64) for _, n in groups] for w in widths]
    squares = [[torch.zeros(n * w, n * w, dtype=torch.float64) for _, n in groups] for w in widths]
    tokens = 0
    for done, kv in enumerate(_body(caches, sinks)):
        progress.step(done, 0, "measuring caches")
        for component in (0, 1):
            for at, (first, layers) in enumerate(groups):
                x = rotary.flatten(kv.part(component)[first : first + layers], kv.start, keys=component == 0)
                sums[component][at] += x.double().sum(0)
                # Centred on its own mean first: float32 products of raw keys would lose the small directions.
                centred = x - x.mean(0)
                own = x.double().mean(0)
                squares[component][at] += (centred.T @ centred).double() + kv.tokens * own[:, None] * own[
                    None, :
                ]
        tokens += kv.tokens
    means = [torch.cat(parts) / tokens for parts in sums]
    for component in (0, 1):
        for at in range(len(groups)):
            mean = sums[component][at] / tokens
            squares[component][at] = squares[component][at] / tokens - mean[:, None] * mean[None, :]
    return (means[0].float(), means[1].float()), squares


def _weight(
    sensitivity: Sensitivity | None, component: int, first: int, covariance: torch.Tensor, layers: int
) -> torch.Tensor:
    """Return the quadratic form of a group, ``[n, n]``: block by layer, kept away from zero."""
    if sensitivity is None:
        variance = covariance.diagonal().reshape(layers, -1).mean(1, keepdim=True).clamp_min(1e-12)
        return torch.diag((1 / variance).expand(-1, covariance.shape[0] // layers).reshape(-1))
    blocks = (sensitivity.keys, sensitivity.values)[component][first : first + layers].double()
    form = torch.block_diag(*blocks)
    diagonal = form.diagonal()
    return (form + form.T) / 2 + torch.diag(0.05 * diagonal + 1e-3 * diagonal.mean())


def _basis(covariance: torch.Tensor, form: torch.Tensor) -> torch.Tensor:
    """Return the inverse transform ``[n, n]`` bfloat16: weigh by the form's root, then rotate to principal axes.

    With ``y = U' W x`` and ``W' W`` the form, equal squared errors in ``y`` harm predictions equally.
    """
    strength, axes = torch.linalg.eigh(form)
    root, unroot = (axes * power @ axes.T for power in (strength.sqrt(), strength.rsqrt()))
    _, principal = torch.linalg.eigh(root @ covariance @ root)
    return (principal.flip(1).T @ unroot).bfloat16().contiguous()


def _steps(sensitivity: Sensitivity | None, geometry: Geometry) -> dict[str, float]:
    """Return each level's step: the error of a uniform cell is step^2 / 12 in every one of the coefficients."""
    if sensitivity is None:
        return dict(PLAIN_STEPS)
    coefficients = sensitivity.tokens * geometry.values_per_token
    return {name: math.sqrt(2 * 12 * nats / UNDERSTATED / coefficients) for name, nats in LEVELS.items()}


def _tables(
    caches: Iterable[KeyValues], profile: CalibrationProfile, steps: Mapping[str, float], progress: Progress
) -> dict[str, LevelTables]:
    """Count every coefficient's symbols at every level, then let similar coefficients share a table."""
    widths = [[basis.shape[0] for basis in bases] for bases in profile.bases]
    wide = max(max(part) for part in widths)
    shape = (len(steps), 2, len(profile.groups), wide, ALPHABET)
    counts = np.zeros(shape, dtype=np.uint32)
    offsets = np.zeros((*shape[:4], NEAR), dtype=np.float64)
    tokens = 0
    for done, kv in enumerate(_body(caches, profile.sinks)):
        progress.step(done, 0, "counting symbols")
        for component in (0, 1):
            for at in range(len(profile.groups)):
                y = coefficients(kv, profile, component, at)
                for number, step in enumerate(steps.values()):
                    symbols, _ = quantise(y, step, y.shape[1])
                    count_offsets(
                        symbols,
                        y,
                        np.float32(1 / step),
                        counts[number, component, at],
                        offsets[number, component, at],
                    )
        tokens += kv.tokens
    return {
        name: _level(step, counts[number], offsets[number], widths, tokens)
        for number, (name, step) in enumerate(steps.items())
    }


def _level(
    step: float, counts: np.ndarray, offsets: np.ndarray, widths: list[list[int]], tokens: int
) -> LevelTables:
    """Build one level's tables from counts ``[2, groups, width, 256]``."""
    flat = counts.reshape(-1, ALPHABET)
    used = flat.sum(1) > 0
    classes = np.zeros(len(flat), dtype=np.uint8)
    classes[used], totals = choose_classes(flat[used], TABLES)
    away = tokens - counts[..., ZERO].astype(np.float64)
    kept = np.zeros(counts.shape[:2], dtype=np.int64)
    for component, part in enumerate(widths):
        for at, width in enumerate(part):
            alive = np.flatnonzero(away[component, at, :width] > NEVER * tokens)
            kept[component, at] = alive[-1] + 1 if len(alive) else 1
    return LevelTables(
        step,
        kept,
        classes.reshape(counts.shape[:3]),
        frequencies_from_counts(totals),
        centres(flat, offsets.reshape(-1, NEAR), classes, len(totals)),
    )
