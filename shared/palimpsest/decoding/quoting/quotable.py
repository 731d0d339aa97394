"""What a generation may quote, shared by its sequences."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from palimpsest.candidates.block import Candidates
from palimpsest.candidates.mixture import KeyIndex
from palimpsest.candidates.settings import Calibration, Mode, NestSettings
from palimpsest.decoding.quoting.revocations import Revocations
from palimpsest.lm.model import LanguageModel
from palimpsest.lm.token_bytes import TokenBytes, special_ids


@dataclass(eq=False)
class Quotable:
    """What a generation may quote: candidates, settings, and deletions that arrive meanwhile.

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
