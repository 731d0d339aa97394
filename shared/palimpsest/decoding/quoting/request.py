"""What a request has to say to be quoting: the candidates, the settings, and who tells of deletions."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from palimpsest.candidates.block import Candidates
from palimpsest.candidates.mixture import Store
from palimpsest.candidates.settings import Calibration, Mode, Settings
from palimpsest.decoding.quoting.revocations import Revocations
from palimpsest.decoding.quoting.sequence import Quoting
from palimpsest.engine.limits import check_ids
from palimpsest.engine.requests import Request
from palimpsest.engine.sequence import SequenceState
from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.lm.forward import Cache
from palimpsest.lm.model import LanguageModel
from palimpsest.lm.token_bytes import TokenBytes, special_ids


@dataclass(eq=False)
class NestRequest:
    """Quote while generating: ``Request(ids, drafting=NestRequest(candidates, Settings()))``.

    Passages without keys are not searched; compute missing keys first (:mod:`palimpsest.candidates.keys`).
    LOSSLESS needs no keys: it proposes by the last tokens alone.

    Parameters
    ----------
    candidates
        Not to be changed any more.
    settings
        What is None there is the calibration's, that of the best passage's corpus.
    revocations
        Where deletions are heard of.
    """

    candidates: Candidates
    settings: Settings = field(default_factory=Settings)
    revocations: Revocations = field(default_factory=Revocations)
    _stores: dict[int, Store] = field(default_factory=dict, repr=False)
    _writers: dict[int, Callable[[int], bytes]] = field(default_factory=dict, repr=False)

    width = 1

    @property
    def needs(self) -> Literal["logits", "retrieval_queries"]:
        """Retrieval queries, if neighbours are searched for."""
        return "retrieval_queries" if self.searches else "logits"

    @property
    def searches(self) -> bool:
        """Whether neighbours are looked for at all."""
        return self.settings.mode not in (Mode.LM, Mode.LOSSLESS) and bool((self.candidates.scales > 0).any())

    @cached_property
    def calibration(self) -> Calibration | None:
        """That of the best passage's corpus, if there is one."""
        passages = self.candidates.passages
        if not passages:
            return None
        return self.candidates.calibrations.get(max(passages, key=lambda p: p.score).corpus)

    @cached_property
    def filled(self) -> Settings:
        """The settings with nothing left open."""
        return self.settings.filled(self.calibration)

    def check(self, model: LanguageModel, request: Request) -> None:
        """Check what can never work, and make the store ready.

        Raises
        ------
        InvalidArgument
            Settings out of range, or candidates that are not this model's.
        FailedPrecondition
            The model's cache cannot be taken back, or its last MLP was not found.
        """
        self.settings.check()
        block = self.candidates
        block.check()
        if len(block):
            check_ids(model, [int(block.tokens.max()), 0])
            if block.keys.shape[1] != model.hidden_size:
                raise InvalidArgument(
                    Reason.CANDIDATES_INVALID,
                    f"Keys of {block.keys.shape[1]} elements are not this model's, which have {model.hidden_size}.",
                )
        if not model.new_cache().can_crop:
            raise FailedPrecondition(
                Reason.MODEL_INVALID,
                "This model's cache cannot be cropped; use a model with plain full attention.",
            )
        if self.searches:
            model.check_retrieval_queries()
        self.store(model)

    def start(self, request: Request, index: int, cache: Cache, model: LanguageModel) -> SequenceState:
        """One of the request's sequences."""
        if self.settings.mode is Mode.LM:
            return SequenceState(request, index, cache, model)
        return Quoting(self, request, index, cache, model)

    def store(self, model: LanguageModel) -> Store:
        """The candidates' keys, ready for search."""
        found = self._stores.get(id(model))
        if found is None:
            found = self._stores[id(model)] = Store(
                self.candidates, special_ids(model.tokenizer) | model.eos_ids, model.device
            )
        return found

    def write(self, model: LanguageModel) -> Callable[[int], bytes]:
        """Gives the bytes of a token."""
        return self._writers.setdefault(id(model), TokenBytes(model.tokenizer))

    def dead(self) -> np.ndarray:
        """Passages without any living owner now: bool [P]."""
        gone = self.revocations.is_dead
        return np.array(
            [
                all(gone(o.corpus, o.document, o.version) for o in (p, *p.owners))
                for p in self.candidates.passages
            ],
            dtype=bool,
        )
