"""Estimated cells of one case, which of them are checked, and what the checks say of the others."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from services.grafting.attribution.at_base import slopes_at_base
from services.grafting.attribution.options import Preview
from services.grafting.attribution.own_layers import OwnLayer, own_layer_estimates
from services.grafting.attribution.slopes import Slopes, midpoints, slopes_of
from services.grafting.attribution.traces import Trace
from services.grafting.engine import (
    LAYER_COMPONENTS,
    Configuration,
    Grafter,
    ModelWeights,
    Patch,
    Weights,
    plan,
)
from services.grafting.engine.configurations import OUTER_COMPONENTS
from services.grafting.runs import PromptRun

_BEST = 10
_CONFIDENCE = 0.95


class Estimates(NamedTuple):
    """Changes of the target's log-probability by cell, in nats.

    Attributes
    ----------
    effect
        [cells].
    strength
        [cells]: the largest of any backward pass, with and without groups of layers; None without such.
    """

    effect: npt.NDArray[np.float64]
    strength: npt.NDArray[np.float64] | None


def estimated(
    grafter: Grafter,
    sources: Sequence[Weights],
    run: PromptRun,
    configurations: Sequence[Configuration],
    options: Preview,
    check: Callable[[], None],
) -> Estimates:
    """Estimate configurations of one case.

    Parameters
    ----------
    grafter
        Whose rows are counted.
    sources
        Base and donor.
    run
        Both models' own passes; with those of :func:`passes_to_preview` slopes at the base cost less.
    configurations
        Of the prompt, each of patches from the donor.
    options
        How.
    check
        Called before each layer; may raise to stop.
    """
    found = _slopes(grafter, sources, run, options, check)
    grafter.row_layers += found.rows
    whole = [run.case.extended(configuration) for configuration in configurations]
    if options.own_layer:
        effects = _by_own_layer(grafter, sources, run, whole, found, check)
    else:
        sums = _Sums(found)
        effects = np.stack([sums.of(each) for each in whole], 1)
    return Estimates(effects[0], effects.max(0) if options.drops else None)


def _slopes(
    grafter: Grafter,
    sources: Sequence[Weights],
    run: PromptRun,
    options: Preview,
    check: Callable[[], None],
) -> Slopes:
    """Find slopes by the cheapest way that there is."""
    base, architecture = sources[0], grafter.architecture
    trace = None if run.passes is None or options.steps else run.passes.kept
    if isinstance(trace, Trace) and isinstance(base, ModelWeights):
        return slopes_at_base(base, architecture, run, trace, options.drops, check)
    shares = midpoints(options.steps)
    return slopes_of(sources, architecture, run.base, run.case, shares, options.drops, check)


class _Sums:
    """Sums of slopes over what configurations graft."""

    def __init__(self, slopes: Slopes) -> None:
        self._body, self._outer = (each.double().cpu().numpy() for each in (slopes.body, slopes.outer))

    def of(self, configuration: Configuration) -> npt.NDArray[np.float64]:
        """Add the slopes of all that is grafted: [1 + drops]."""
        patches = configuration.patches
        names = [] if len(patches) != 1 else list(patches[0].components)
        if names and not set(names) & set(OUTER_COMPONENTS):  # most cells, and dense ones take long
            columns = [LAYER_COMPONENTS.index(name) for name in names]
            where = np.ix_(patches[0].positions, patches[0].layers, columns)
            return self._body[(slice(None), *where)].sum((1, 2, 3))
        body, outer = configuration.dense(*self._body.shape[1:3])
        return self._body[:, body != 0].sum(-1) + self._outer[:, outer != 0].sum(-1)


def _by_own_layer(
    grafter: Grafter,
    sources: Sequence[Weights],
    run: PromptRun,
    configurations: Sequence[Configuration],
    slopes: Slopes,
    check: Callable[[], None],
) -> npt.NDArray[np.float64]:
    """Estimate each layer of each configuration by itself; components outside the layers by their slopes."""
    tokens, layers, outputs = len(run.case.ids), grafter.architecture.layers, len(run.case.target)
    grafts: list[OwnLayer] = []
    owners: list[int] = []
    effects = np.zeros((slopes.body.shape[0], len(configurations)))
    sums = _Sums(slopes)
    for number, configuration in enumerate(configurations):
        outside = _only(configuration, OUTER_COMPONENTS)
        effects[:, number] = sums.of(Configuration(outside))
        inside = _only(configuration, LAYER_COMPONENTS)
        for layer in sorted({layer for patch in inside for layer in patch.layers}):
            one = Configuration(tuple(p._replace(layers=(layer,)) for p in inside if layer in p.layers))
            grafts.append(OwnLayer(layer, plan(one, 0, tokens, layers, outputs)))
            owners.append(number)
    found, rows = own_layer_estimates(sources, grafter.architecture, run.base, slopes.residual, grafts, check)
    grafter.row_layers += rows
    for at, owner in enumerate(owners):
        effects[:, owner] += found[:, at].cpu().numpy()
    return effects


def _only(configuration: Configuration, components: Sequence[str]) -> tuple[Patch, ...]:
    """Patches of some components alone."""
    return tuple(
        p._replace(components=[c for c in p.components if c in components]) for p in configuration.patches
    )


def picked(estimates: Estimates, options: Preview, case: int) -> tuple[list[int], list[int]]:
    """Return the cells to graft: the largest ones, and others drawn at random by the seed and the case's number."""
    key = estimates.effect if estimates.strength is None else estimates.strength
    order = np.argsort(-key, kind="stable")
    top, rest = order[: options.top], np.sort(order[options.top :])
    draw = np.random.default_rng([options.seed % (1 << 63), case])
    random = draw.choice(rest, min(options.random, len(rest)), replace=False)
    return sorted(top.tolist()), sorted(random.tolist())


class Check(NamedTuple):
    """What grafts say of estimates; as of the contract's PreviewCheck."""

    correlation: float | None
    threshold: float
    random_above: int
    missed_at_most: int
    largest_error: float


def checked(
    effect: npt.NDArray[np.float64], exact: npt.NDArray[np.float64], top: Sequence[int], random: Sequence[int]
) -> Check:
    """Compare estimates with grafts.

    Parameters
    ----------
    effect
        Estimates by cell.
    exact
        Grafts by cell; NaN where there is none.
    top, random
        The cells that :func:`picked` chose.
    """
    whole = bool(np.isfinite(exact).all())
    compared = np.arange(len(exact)) if whole else np.asarray(random, np.intp)
    best = np.sort(exact[list(top)])[::-1]
    threshold = float(best[min(_BEST, len(best)) - 1])
    above = int((exact[list(random)] > threshold).sum())
    others = len(exact) - len(top)
    if whole:
        missed = int((np.delete(exact, list(top)) > threshold).sum())
    else:
        missed = most_above(others, len(random), above) - above
    return Check(
        _correlation(effect[compared], exact[compared]),
        threshold,
        above,
        missed,
        float(np.abs(effect - exact)[list(random)].max(initial=0.0)),
    )


def most_above(cells: int, drawn: int, above: int) -> int:
    """Bound how many cells are above a threshold of which so many were drawn without replacement.

    The largest number that would leave no more than ``above`` among the drawn ones with a probability above 5 %: the
    exact upper limit of the hypergeometric distribution.
    """
    from scipy.stats import hypergeom

    numbers = np.arange(above, cells - (drawn - above) + 1)
    likely = hypergeom.cdf(above, cells, numbers, drawn) > 1 - _CONFIDENCE
    return int(numbers[likely].max())


def _correlation(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float | None:
    if len(a) < 3 or not a.std() or not b.std():
        return None
    return float(np.corrcoef(a, b)[0, 1])
