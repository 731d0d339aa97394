"""Tuning superposed drafts for a model and an n-gram store: a grid of alpha and temperature, scored by the model."""

import json
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import cast

import redis

from palimpsest.decoding.drafts import Draft
from palimpsest.decoding.drafts.events import DraftsEnd
from palimpsest.decoding.drafts.request import DraftRequest
from palimpsest.decoding.drafts.settings import DraftSettings, DraftStrategy
from palimpsest.engine import Engine, Request
from palimpsest.engine.events import Event, Failed
from palimpsest.ngrams import NgramStore
from palimpsest.redis import PUT_FIELD, growing, translated

ALPHAS = (0.0, 0.1, 0.2, 0.3, 0.54)
TEMPERATURES = (0.04, 0.06, 0.1)
PREFIXES, PREFIX, TOKENS = 24, 15, 10
"""Number of prefixes, tokens of a prefix, and tokens of a draft, as in the paper."""


@dataclass(frozen=True)
class Tuned:
    """The best n-gram weight and temperature, and the geometric mean perplexity of the drafts they give."""

    alpha: float
    temperature: float
    perplexity: float


@dataclass(frozen=True)
class Trial:
    """One grid point: geometric mean perplexity of all drafts, and of the best draft of each prefix."""

    alpha: float
    temperature: float
    perplexity: float
    best_perplexity: float


class TunedCatalogue:
    """Tuned settings by store and model. Calls block; thread-safe.

    Key, under the installation's prefix: ``drafts-tuned``, HASH of ``store digest/model fingerprint`` -> JSON.
    """

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._redis, self._key = client, f"{prefix}drafts-tuned"
        self._put = growing(client, PUT_FIELD)

    def put(self, store: str, model: str, tuned: Tuned) -> None:
        """Store the settings for a store's digest and a model's fingerprint."""
        with translated():
            self._put(keys=[self._key], args=[f"{store}/{model}", json.dumps(asdict(tuned))])

    def find(self, store: str, model: str) -> Tuned | None:
        """The settings for a store and a model; None if they were not tuned."""
        with translated():
            found = cast(bytes | None, self._redis.hget(self._key, f"{store}/{model}"))
        return Tuned(**json.loads(found)) if found else None


def prefixes_of(ids: Sequence[int], count: int = PREFIXES, size: int = PREFIX) -> list[list[int]]:
    """``count`` prefixes of ``size`` tokens, spread evenly over a text; fewer where the text is short."""
    room = len(ids) // (size + TOKENS)
    count = min(count, room)
    step = len(ids) // max(1, count)
    return [list(ids[n * step : n * step + size]) for n in range(count)]


def trials(
    engine: Engine,
    store: NgramStore,
    prefixes: Sequence[Sequence[int]],
    k: int,
    check: Callable[[], None],
    alphas: Sequence[float] = ALPHAS,
    temperatures: Sequence[float] = TEMPERATURES,
    salt: bytes = b"",
) -> Iterator[Trial]:
    """Make drafts at every grid point, and score them by the model.

    Costs one superposed generation and one verification for each prefix and point.

    Parameters
    ----------
    engine
        Runs the model.
    store
        Built with the model's tokenizer.
    prefixes
        Token ids of text that is not in the store.
    k
        Drafts for each prefix.
    check
        Called between generations; raises to stop.
    alphas, temperatures
        The grid.
    salt
        Of the requests with which these share cached prefixes.
    """
    for alpha in alphas:
        for temperature in temperatures:
            settings = DraftSettings(
                k=k, strategy=DraftStrategy.SUPERPOSED, exact=True, alpha=alpha, temperature=temperature
            )
            means: list[float] = []
            best: list[float] = []
            for ids in prefixes:
                check()
                drafts = drafts_of(
                    engine,
                    Request(ids, max_tokens=TOKENS, strategy=DraftRequest(settings, store), salt=salt),
                )
                own = [-d.logprob / len(d.ids) for d in drafts if d.logprob is not None]
                means += own
                best.append(min(own))
            yield Trial(
                alpha, temperature, math.exp(sum(means) / len(means)), math.exp(sum(best) / len(best))
            )


def drafts_of(engine: Engine, request: Request) -> list[Draft]:
    """Make drafts, best first; waits for them.

    Raises
    ------
    PalimpsestError
        The engine refuses the request, or the request fails.
    """
    done, events = threading.Event(), list[Event]()

    def deliver(some: Sequence[Event]) -> None:
        events.extend(some)
        if isinstance(some[-1], DraftsEnd | Failed):
            done.set()

    handle = engine.submit(request, deliver)
    try:
        done.wait()
    finally:
        handle.cancel()
    if isinstance(events[-1], Failed):
        raise events[-1].error
    return [event for event in events if isinstance(event, Draft)]
