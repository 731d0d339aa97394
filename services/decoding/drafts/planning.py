"""Fills in what a request for drafts leaves open: from the n-gram store, the tuner and measured step times."""

import asyncio
from dataclasses import dataclass, replace
from typing import Any

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.client.aio.connection import AsyncConnection
from palimpsest.client.aio.datastore import AsyncDatastore
from palimpsest.decoding.drafts import DraftRequest, DraftSettings, DraftStrategy
from palimpsest.decoding.drafts.costs import DraftCosts, cheapest, probe_costs
from palimpsest.decoding.drafts.healing import Vocabulary, heal
from palimpsest.decoding.drafts.request import WINDOW
from palimpsest.engine import Hosted, Request
from palimpsest.engine.costs import decode_probe_blocks
from palimpsest.lm.token_bytes import special_ids
from palimpsest.models import ModelRecord
from palimpsest.ngrams import NgramStore, StoreCache
from services.decoding.drafts.messages import NUMBERS, STRATEGIES, settings_of
from services.decoding.drafts.tuning import Tuned, TunedCatalogue
from services.decoding.quoting.quotation import may_quote
from services.decoding.rooms import CallerRooms

ALPHA, MIN_COVERAGE = 0.5, 0.5
"""Weight of the n-grams before tuning, and the coverage below which they are left out."""


@dataclass(frozen=True)
class PlannedDrafts:
    """A request for drafts with nothing left open.

    Parameters
    ----------
    request
        The engine's request; it lacks the tokens that were healed, and its strategy.
    strategy
        How the drafts are made.
    message
        The decisions, as the caller is told them.
    """

    request: Request
    strategy: DraftRequest
    message: pb.DraftsPlanned


class DraftPlanner:
    """Plans requests for drafts; one for the whole server.

    Parameters
    ----------
    stores
        Open n-gram stores.
    tuned
        Results of the tuner.
    """

    def __init__(self, stores: StoreCache, tuned: TunedCatalogue) -> None:
        self._stores, self._tuned = stores, tuned
        self._vocabularies: dict[str, Vocabulary] = {}
        self._costs: dict[int, tuple[Any, asyncio.Future[DraftCosts]]] = {}

    async def plan(
        self, message: pb.DraftRequest, request: Request, hosted: Hosted, rooms: CallerRooms
    ) -> PlannedDrafts:
        """Fill in what the caller left open.

        Parameters
        ----------
        message
            The caller's request.
        request
            The same as the engine's request, without a strategy.
        hosted
            The model.
        rooms
            The datastore room, which knows the n-gram store, with the caller's token.

        Raises
        ------
        InvalidArgument
            DRAFT_SETTINGS_INVALID.
        NotFound, FailedPrecondition, PermissionDenied, DataLoss
            There is no such n-gram store, it was built with another tokenizer, the caller may not read it, or it is
            damaged.
        """
        given, quotes = message.settings, may_quote(message.nest)
        settings = settings_of(message, quotes)
        decided = pb.DraftsPlanned()
        strategy = DraftRequest(settings)
        if given.heal:
            healed = heal(request.ids, await asyncio.to_thread(self._vocabulary, hosted))
            if healed is not None:
                request = replace(request, ids=healed.ids)
                strategy = replace(strategy, healed=healed.taken, allowed=healed.allowed)
                decided.healed = healed.taken
        if given.ngrams:
            decided.store, store = await self._store(given.ngrams, hosted.record, rooms.datastore)
            tuned = await asyncio.to_thread(self._tuned.find, decided.store, hosted.record.fingerprint)
            settings, decided.coverage = gate_by_coverage(given, settings, store, tuned, request)
            strategy = replace(strategy, store=store)
        if given.strategy not in STRATEGIES and not quotes:
            settings = await self._cheapest(settings, request, hosted, decided)
        decided.strategy = NUMBERS[settings.strategy]
        decided.alpha, decided.temperature = settings.alpha, settings.temperature
        return PlannedDrafts(request, replace(strategy, settings=settings), decided)

    async def _store(
        self, name: str, record: ModelRecord, connection: AsyncConnection
    ) -> tuple[str, NgramStore]:
        """The digest of a store's file, under which it is tuned, and the store."""
        found = await AsyncDatastore(connection).get_ngram_store(name=name, timeout=connection.deadline)
        store = await asyncio.to_thread(self._stores.get, found.artifact)
        store.require(record.tokenizer_fingerprint)
        return found.artifact, store

    async def _cheapest(
        self, settings: DraftSettings, request: Request, hosted: Hosted, decided: pb.DraftsPlanned
    ) -> DraftSettings:
        """Decide for AUTO; adds the expected costs to what the caller is told."""
        engine = hosted.engine
        samples = bool(request.sampling.temperature)
        if decode_probe_blocks(engine.model) > engine.model.limits.cache_blocks:
            # The cache is too small to measure in, and so for many requests at once: use an exact strategy.
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
            len(request.ids),
            request.max_tokens,
            engine.running,
            samples,
        )
        for one, seconds in expected.items():
            decided.costs.add(strategy=NUMBERS[one], seconds=seconds)
        if not strategy.superposes:
            settings = replace(settings, reset_every=0, exact=False)
        return replace(settings, strategy=strategy)

    async def _measured(self, hosted: Hosted) -> DraftCosts:
        """Step times of the model on this machine, measured by the first request that needs them."""
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
            model, tokenizer = hosted.engine.model, hosted.tokenizer
            size = min(model.vocab_size, len(tokenizer))
            special = special_ids(tokenizer) | model.eos_ids
            self._vocabularies[key] = Vocabulary(size, hosted.token_bytes, special)
        return self._vocabularies[key]


def gate_by_coverage(
    given: pb.DraftSettings, settings: DraftSettings, store: NgramStore, tuned: Tuned | None, request: Request
) -> tuple[DraftSettings, float]:
    """Set the weight of the n-grams: the caller's, else the tuned one, but 0 where the store does not cover the prompt.

    Parameters
    ----------
    given
        The caller's settings.
    settings
        To be completed.
    store
        The n-grams.
    tuned
        The tuner's result for this store and model, if there is one.
    request
        Its prompt's end is looked up.

    Returns
    -------
    tuple
        The settings, and the fraction of the prompt's end that the store covers.
    """
    coverage = store.coverage(list(request.ids[-WINDOW:]))
    if tuned is not None and not given.HasField("temperature"):
        settings = replace(settings, temperature=tuned.temperature)
    if given.HasField("alpha"):
        return replace(settings, alpha=given.alpha), coverage
    least = given.min_coverage if given.HasField("min_coverage") else MIN_COVERAGE
    alpha = 0.0 if coverage < least else ALPHA if tuned is None else tuned.alpha
    return replace(settings, alpha=alpha), coverage
