"""Quoting as a strategy of the engine: the candidate block, the settings and the revocations."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from palimpsest.candidates.block import Candidates
from palimpsest.candidates.mixture import KeyIndex
from palimpsest.candidates.settings import Calibration, Mode, NestSettings
from palimpsest.decoding.quoting.revocations import Revocations
from palimpsest.decoding.quoting.sequence import Quoting
from palimpsest.engine.limits import check_ids
from palimpsest.engine.requests import Request
from palimpsest.engine.sequence import SequenceState
from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.lm.forward import Cache
from palimpsest.lm.generic import ModuleCache, last_mlp
from palimpsest.lm.model import LanguageModel
from palimpsest.lm.token_bytes import TokenBytes, special_ids


@dataclass(eq=False)
class NestRequest:
    """Quote while generating: ``Request(ids, strategy=NestRequest(candidates, NestSettings()))``.

    Passages without keys are not searched; compute missing keys first (:mod:`palimpsest.candidates.keys`).
    LOSSLESS needs no keys: it proposes by the last tokens alone.

    Parameters
    ----------
    candidates
        Must not change after this.
    settings
        Fields that are None come from the calibration of the best passage's corpus.
    revocations
        Deletions that arrive during generation.
    """

    candidates: Candidates
    settings: NestSettings = field(default_factory=NestSettings)
    revocations: Revocations = field(default_factory=Revocations)
    _indexes: dict[int, KeyIndex] = field(default_factory=dict, repr=False)
    _writers: dict[int, Callable[[int], bytes]] = field(default_factory=dict, repr=False)

    width = 1

    @property
    def retrieval_queries(self) -> Literal["none", "last"]:
        """Whether the first choice needs the query of the prompt's last token."""
        return "last" if self.searches else "none"

    @property
    def searches(self) -> bool:
        """Whether neighbours are searched at all."""
        return self.settings.mode not in (Mode.LM, Mode.LOSSLESS) and bool((self.candidates.scales > 0).any())

    @cached_property
    def calibration(self) -> Calibration | None:
        """The calibration of the best passage's corpus, if there is one."""
        passages = self.candidates.passages
        if not passages:
            return None
        return self.candidates.calibrations.get(max(passages, key=lambda p: p.score).corpus)

    @cached_property
    def filled(self) -> NestSettings:
        """The settings with every field filled in."""
        return self.settings.filled(self.calibration)

    def check(self, model: LanguageModel, request: Request) -> None:
        """Refuse a request that can never work, and build the index of keys.

        Raises
        ------
        InvalidArgument
            A setting is out of range, or the candidates belong to another model.
        FailedPrecondition
            The model's cache cannot be rolled back, or its last MLP was not found.
        """
        self.settings.check()
        block = self.candidates
        block.check()
        if len(block):
            check_ids(model, [int(block.tokens.max()), 0])
            if block.keys.shape[1] != model.hidden_size:
                raise InvalidArgument(
                    Reason.CANDIDATES_INVALID,
                    f"The keys have {block.keys.shape[1]} elements; this model's have {model.hidden_size}.",
                )
        cache = model.new_cache()
        if isinstance(cache, ModuleCache):
            if cache.state is not None and not cache.can_load:
                raise FailedPrecondition(
                    Reason.MODEL_INVALID,
                    "This model's cache cannot be rolled back, which quoting needs. Use a model with full attention.",
                )
            if self.searches:
                last_mlp(model.module)
        self.index(model)

    def start(self, request: Request, index: int, cache: Cache, model: LanguageModel) -> SequenceState:
        """One of the request's sequences."""
        if self.settings.mode is Mode.LM:
            return SequenceState(request, index, cache, model)
        return Quoting(self, request, index, cache, model)

    def index(self, model: LanguageModel) -> KeyIndex:
        """The candidates' keys, indexed for search."""
        found = self._indexes.get(id(model))
        if found is None:
            found = self._indexes[id(model)] = KeyIndex(
                self.candidates, special_ids(model.tokenizer) | model.eos_ids, model.device
            )
        return found

    def write(self, model: LanguageModel) -> Callable[[int], bytes]:
        """The function from a token to its bytes."""
        return self._writers.setdefault(id(model), TokenBytes(model.tokenizer))

    def dead(self) -> np.ndarray:
        """Passages whose owners have all been deleted: bool [P]."""
        gone = self.revocations.is_dead
        return np.array(
            [
                all(gone(o.corpus, o.document, o.version) for o in (p, *p.owners))
                for p in self.candidates.passages
            ],
            dtype=bool,
        )
