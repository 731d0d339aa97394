"""Requests for drafts: what the caller left open is decided here, by the store, the tuner and the measured costs."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.candidates.block import Candidates
from palimpsest.client.aio.connection import AsyncConnection
from palimpsest.client.aio.datastore import AsyncDatastore
from palimpsest.decoding.drafts import DraftRequest, DraftSettings, DraftStrategy
from palimpsest.decoding.drafts.costs import DraftCosts, cheapest, probe_costs
from palimpsest.decoding.drafts.healing import Vocabulary, heal
from palimpsest.decoding.drafts.request import WINDOW
from palimpsest.decoding.quoting.proposals import proposals
from palimpsest.decoding.quoting.request import NestRequest
from palimpsest.engine import Hosted, Request
from palimpsest.engine.costs import decode_probe_blocks
from palimpsest.lm.token_bytes import special_ids
from palimpsest.models import ModelRecord
from palimpsest.ngrams import NgramStore, StoreCache
from services.decoding.drafts.messages import NUMBERS, STRATEGIES, settings_of
from services.decoding.drafts.tuning import Tuned, TunedCatalogue
from services.decoding.quoting.quotation import may_quote

Drafts = pb.DraftSettings
TOKENS = 10
"""Tokens of a draft where a request does not say: what superposed drafts are good for."""
ALPHA, MIN_COVERAGE, QUOTED = 0.5, 0.5, 3


@dataclass(frozen=True)
class Planned:
    """What was decided about a request."""

    request: Request
    told: pb.DraftsPlanned


class DraftPlanner:
    """Decides requests for drafts; one for the whole server.

    Parameters
    ----------
    shelf
        n-gram stores.
    tuned
        What the tuner found.
    write
        Gives the bytes of a model's tokens.
    """

    def __init__(
        self,
        shelf: StoreCache,
        tuned: TunedCatalogue,
        write: Callable[[Hosted], Callable[[int], bytes]],
    ) -> None:
        self._shelf, self._tuned, self._write = shelf, tuned, write
        self._vocabularies: dict[str, Vocabulary] = {}
        self._costs: dict[int, tuple[Any, asyncio.Future[DraftCosts]]] = {}

    async def plan(
        self, message: pb.GenerateRequest, wanted: Request, hosted: Hosted, connection: AsyncConnection
    ) -> Planned:
        """Decide what the caller left open.

        Parameters
        ----------
        message
            With drafts.
        wanted
            What it asks of the engine otherwise.
        hosted
            The model.
        connection
            To the datastore room, for the store; as the caller may use it.

        Raises
        ------
        InvalidArgument
            Settings out of range.
        NotFound, FailedPrecondition, PermissionDenied, DataLoss
            The store: there is none of this name, it is another tokenizer's, not the caller's, or damaged.
        """
        asked, quotes = message.drafts, may_quote(message.nest)
        settings = settings_of(asked, quotes)
        told = pb.DraftsPlanned()
        if not message.max_tokens:
            wanted = replace(wanted, max_tokens=TOKENS)
        request = DraftRequest(settings)
        if asked.heal:
            healed = heal(wanted.ids, await asyncio.to_thread(self._vocabulary, hosted))
            if healed is not None:
                wanted = replace(wanted, ids=healed.ids)
                request = replace(request, healed=healed.taken, allowed=healed.allowed)
                told.healed = healed.taken
        if asked.ngrams:
            told.store, store = await self._store(asked.ngrams, hosted.record, connection)
            tuned = await asyncio.to_thread(self._tuned.find, told.store, hosted.record.fingerprint)
            settings, told.coverage = gated(asked, settings, store, tuned, wanted)
            request = replace(request, store=store)
        if asked.strategy not in STRATEGIES and not quotes:
            settings = await self._cheapest(settings, wanted, hosted, told)
        request = replace(request, settings=settings)
        told.strategy = NUMBERS[settings.strategy]
        told.alpha, told.temperature = settings.alpha, settings.temperature
        return Planned(replace(wanted, strategy=request), told)

    async def _store(
        self, name: str, record: ModelRecord, connection: AsyncConnection
    ) -> tuple[str, NgramStore]:
        """A store and its artefact's digest, which is what it is tuned under."""
        found = await AsyncDatastore(connection).get_ngram_store(name=name, timeout=connection.deadline)
        store = await asyncio.to_thread(self._shelf.get, found.artifact)
        store.require(record.tokenizer_fingerprint)
        return found.artifact, store

    async def _cheapest(
        self, settings: DraftSettings, wanted: Request, hosted: Hosted, told: pb.DraftsPlanned
    ) -> DraftSettings:
        engine = hosted.engine
        samples = bool(wanted.sampling.temperature)
        if decode_probe_blocks(engine.model) > engine.model.limits.cache_blocks:
            # Too small a cache to measure in, let alone for many requests at once: what is exact, then.
            return replace(
                settings,
                reset_every=0,
                exact=False,
                strategy=DraftStrategy.NUCLEUS if samples else DraftStrategy.BEAM,
            )
        costs = await self._measured(hosted)
        strategy, expected = cheapest(
            costs,
            settings,
            len(wanted.ids),
            wanted.max_tokens,
            engine.running,
            samples,
        )
        for one, seconds in expected.items():
            told.costs.add(strategy=NUMBERS[one], seconds=seconds)
        if not strategy.superposes:
            settings = replace(settings, reset_every=0, exact=False)
        return replace(settings, strategy=strategy)

    async def _measured(self, hosted: Hosted) -> DraftCosts:
        """The model's costs here; measured once, by the first who asks."""
        engine = hosted.engine
        found = self._costs.get(id(engine))
        if found is None or found[0] is not engine or (found[1].done() and found[1].exception() is not None):
            self._costs = {n: pair for n, pair in self._costs.items() if not pair[0].failed}
            model = engine.model
            work = engine.submit_task(probe_costs(model, engine.costs), decode_probe_blocks(model), 1)
            found = self._costs[id(engine)] = (engine, asyncio.wrap_future(work))
        return await asyncio.shield(found[1])

    def _vocabulary(self, hosted: Hosted) -> Vocabulary:
        key = hosted.record.tokenizer_fingerprint
        if key not in self._vocabularies:
            model = hosted.engine.model
            size = min(model.vocab_size, len(cast(Any, model.tokenizer)))
            special = special_ids(model.tokenizer) | model.eos_ids
            self._vocabularies[key] = Vocabulary(size, self._write(hosted), special)
        return self._vocabularies[key]


def gated(
    asked: Drafts, settings: DraftSettings, store: NgramStore, tuned: Tuned | None, wanted: Request
) -> tuple[DraftSettings, float]:
    """Weight of the n-grams: what the caller says, else what was tuned; none where the store knows no such text.

    Returns
    -------
    tuple
        Settings, and the share of the prompt's end that the store knows.
    """
    coverage = store.coverage(list(wanted.ids[-WINDOW:]))
    if tuned is not None and not asked.HasField("temperature"):
        settings = replace(settings, temperature=tuned.temperature)
    if asked.HasField("alpha"):
        return replace(settings, alpha=asked.alpha), coverage
    least = asked.min_coverage if asked.HasField("min_coverage") else MIN_COVERAGE
    alpha = 0.0 if coverage < least else ALPHA if tuned is None else tuned.alpha
    return replace(settings, alpha=alpha), coverage


def with_quotations(planned: Planned, opened: Request) -> Request:
    """Let what passages go on with be judged beside the drafts.

    Parameters
    ----------
    planned
        The request for drafts.
    opened
        The same as a request that quotes, with its candidates.
    """
    nest, request = opened.strategy, planned.request
    assert isinstance(nest, NestRequest)
    assert isinstance(request.strategy, DraftRequest)
    block: Candidates = nest.candidates
    revocations = nest.revocations
    extra = proposals(
        block,
        request.ids,
        min(QUOTED, request.strategy.settings.k),
        request.max_tokens,
        lambda corpus, document, version: not revocations.is_dead(corpus, document, version),
        request.strategy.healed,
    )
    return replace(request, strategy=replace(request.strategy, extra=tuple(extra)))
