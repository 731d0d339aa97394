"""Bound a coded chunk's loss without the model: from the mean that was measured of its level, and its own errors.

How much the same errors cost differs from text to text, several times. Two things make it much more, and both show in
the errors. In text unlike the calibration, the coefficients that a profile leaves out are not small. And errors that
many tokens share add up, where attention would average others: a thousand equal tokens are all rounded alike.
"""

from collections.abc import Mapping, Sequence

import torch

from palimpsest.kv.container import read_header
from palimpsest.kv.header import Kind
from palimpsest.kv.layout import KeyValues
from palimpsest.kv.profile import CalibrationProfile
from palimpsest.kv.promises.keeping import Coded

MARGIN = 4.0
"""What is told, over the mean of the level: 95 of 100 chunks of ordinary text lose less."""
SHARED, SHARED_TOKENS = 8.0, 384
"""How large a sum of errors over all tokens is in chunks of ordinary text of at most so many tokens, over that of
independent errors; in longer ones it grows with them."""


class Estimates:
    """Bounds from means and errors: a ``Losses`` that needs no model.

    Parameters
    ----------
    means
        Mean loss of each (codec, level) on ordinary text, in nats a token.
    profile
        What the chunks are coded with, if they are.
    """

    def __init__(
        self, means: Mapping[tuple[str, str], float], profile: CalibrationProfile | None = None
    ) -> None:
        self._means, self._profile = means, profile

    def __call__(self, kv: KeyValues, forms: Sequence[Coded]) -> list[float]:
        """Bound the loss of each form, in nats a token."""
        return [self._loss(kv, form) for form in forms]

    def _loss(self, kv: KeyValues, form: Coded) -> float:
        shared = shared_excess(kv, form.kv)
        # A profile's errors are shared where the text is unlike the calibration's, which does harm in other ways too.
        times = shared if form.codec == "generic" else self._excess(form) * shared**2
        return MARGIN * self._means[form.codec, form.level] * times

    def _excess(self, form: Coded) -> float:
        """How many times the energy of even cells' errors the worst section has."""
        if form.codec != "transform" or self._profile is None:
            return 1.0  # whatever lies outside its cells is escaped
        step = self._profile.level(form.level).step
        entries = read_header(form.data).entries
        return max([1.0, *(12 * (e.error / step) ** 2 for e in entries if e.kind is not Kind.SINKS)])


def shared_excess(kv: KeyValues, back: KeyValues) -> float:
    """Return how many times the ordinary share of the values' errors is the same for all tokens; at least 1."""
    away = kv.values.float() - back.values.float()  # [layers, heads, tokens, dim]
    energy = away.square().sum((1, 2, 3))  # [layers]
    common = away.sum(2).square().sum((1, 2))  # [layers]: independent errors make it equal to the energy
    times = torch.where(energy > 0, common / energy.clamp_min(1e-30), 1.0)
    return max(1.0, float(times.mean()) / (SHARED * max(1.0, kv.tokens / SHARED_TOKENS)))
