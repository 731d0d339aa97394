"""How quoting weighs retrieval against the model: settings, and the calibration of a corpus."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from palimpsest.errors import InvalidArgument, Reason


class Mode(Enum):
    """Which tokens are taken from passages, and by which rule."""

    LM = "lm"
    """None: the model alone."""
    KNN_LM = "knn_lm"
    """The mixture with one fixed weight, token by token."""
    NEST = "nest"
    """Spans, accepted leniently."""
    NEST_STRICT = "nest_strict"
    """Spans, accepted where the mixture gives a token at least half the probability of its best token."""
    LOSSLESS = "lossless"
    """Spans, accepted where the model alone would have chosen the same tokens."""


@dataclass(frozen=True)
class Calibration:
    """The mixture's parameters for a corpus and a model, and the measurements they were chosen by.

    Parameters
    ----------
    mu
        Distance temperature, in units of 1 / sqrt(d).
    alpha, tau
        Midpoint and width of the sigmoid that turns the distance ratio into the model's weight.
    r
        Number of neighbours.
    beta
        Weight of the passage prior; without it, quotes often come from the wrong document.
    model
        Fingerprint of the model whose states were sampled.
    positions, novel
        Sampled positions, and how many of them had a context that is not in the store.
    nll_lm, nll
        Mean negative log-likelihood (nats) under the model alone, and under the mixture.
    novel_nll_lm, novel_nll
        The same on the novel positions.
    """

    mu: float = 3.0
    alpha: float = 0.3
    tau: float = 0.1
    r: int = 128
    beta: float = 5.0
    model: str = ""
    positions: int = 0
    novel: int = 0
    nll_lm: float = 0.0
    nll: float = 0.0
    novel_nll_lm: float = 0.0
    novel_nll: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Fields by name, for a manifest."""
        return dict(self.__dict__)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Calibration":
        """Read what :meth:`to_json` gave; fields of later versions are left out.

        Raises
        ------
        ValueError
            A field is not a number.
        """
        known = {name: fields[name] for name in cls.__dataclass_fields__ if name in fields}
        texts = {"model"}
        for name, value in known.items():
            if not isinstance(value, str if name in texts else int | float) or isinstance(value, bool):
                raise ValueError(f"calibration.{name} is {value!r}")
        return cls(**known)


@dataclass(frozen=True)
class NestSettings:
    """How one request quotes. None takes the corpus's calibrated value, or the default without a calibration.

    Parameters
    ----------
    mode
        See :class:`Mode`.
    mu, alpha, tau, r, beta
        As in :class:`Calibration` (paper, section 3; beta is ours: the weight of a passage's retrieval score).
    delta
        A span is proposed where the model's weight is at most this (paper: 0.5).
    gamma
        Acceptance threshold in (0, 1]; small is lenient. None for the mode's default: 0.05, or 0.5 in NEST_STRICT.
    lm_weight
        The model's fixed weight in KNN_LM.
    draft
        Maximum number of tokens proposed at once.
    token_matches
        Whether to report single tokens that the nearest neighbour has as well.
    """

    mode: Mode = Mode.NEST
    mu: float | None = None
    alpha: float | None = None
    tau: float | None = None
    r: int | None = None
    beta: float | None = None
    delta: float = 0.5
    gamma: float | None = None
    lm_weight: float = 0.7
    draft: int = 64
    token_matches: bool = True

    def check(self) -> None:
        """Check ranges.

        Raises
        ------
        InvalidArgument
            INVALID_REQUEST: a value is out of range; the field is named.
        """
        strict = self.mode is Mode.NEST_STRICT
        ranges = {
            "mu": (self.mu, "above 0", lambda v: v > 0),
            "alpha": (self.alpha, "from 0 to 2", lambda v: 0 <= v <= 2),
            "tau": (self.tau, "above 0", lambda v: v > 0),
            "r": (self.r, "at least 1", lambda v: v >= 1),
            "beta": (self.beta, "at least 0", lambda v: v >= 0),
            "delta": (self.delta, "from 0 to 1", lambda v: 0 <= v <= 1),
            "gamma": (
                self.gamma,
                "from 0.5 to 1 in NEST_STRICT" if strict else "above 0 and at most 1",
                lambda v: 0.5 * strict <= v <= 1 and v > 0,
            ),
            "lm_weight": (self.lm_weight, "from 0 to 1", lambda v: 0 <= v <= 1),
            "draft": (self.draft, "from 1 to 256", lambda v: 1 <= v <= 256),
        }
        for name, (value, allowed, holds) in ranges.items():
            if value is not None and not holds(value):
                raise InvalidArgument.field(
                    Reason.INVALID_REQUEST, f"nest.{name}", f"{name} is {value}; it must be {allowed}."
                )

    def filled(self, calibration: Calibration | None) -> "NestSettings":
        """These settings with every field filled in."""
        found = calibration or Calibration()
        names = [n for n in ("mu", "alpha", "tau", "r", "beta") if getattr(self, n) is None]
        gamma = 0.5 if self.mode is Mode.NEST_STRICT else 0.05
        return replace(
            self,
            gamma=gamma if self.gamma is None else self.gamma,
            **{name: getattr(found, name) for name in names},
        )
