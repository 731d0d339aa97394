"""Loading two models that can be grafted, and keeping them."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from palimpsest.models import ModelRecord, verify
from palimpsest.progress import NullProgress, Progress
from palimpsest.settings import Settings
from services.grafting.pairs.comparing import Facts, mismatch, require_finite, require_pair, shape_differences

if TYPE_CHECKING:
    from services.grafting.engine import Grafter, ModelWeights


@dataclass
class Pair:
    """Two loaded models of one architecture, by their records, and perhaps further donors.

    Parameters
    ----------
    records
        Base and donor.
    grafter
        With the base as source 0 and the donor as source 1.
    weights
        Of both.
    facts
        Of both; tied if either is.
    tokenizer
        The base's; the donor's gives the same ids.
    others
        Weights of further donors.
    ends
        Tokens that end a text of the base's.
    """

    records: tuple[ModelRecord, ModelRecord]
    grafter: "Grafter"
    weights: "tuple[ModelWeights, ModelWeights]"
    facts: Facts
    tokenizer: Any = field(repr=False)
    others: "tuple[ModelWeights, ...]" = ()
    ends: frozenset[int] = frozenset()


class PairHost:
    """Models for grafting in this process, the least recently used given up first.

    They are loaded apart from those that generate: as transformers' own modules, in float32 unless a dtype is set, so
    that a pass of a pair's is a pass of transformers'.

    Parameters
    ----------
    settings
        Device, dtype and threads.
    held
        How many models stay in memory, at least two.
    """

    def __init__(self, settings: Settings, held: int = 2) -> None:
        self._settings, self._held = settings, max(2, held)
        self._models: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()

    def load(
        self,
        base: ModelRecord,
        donor: ModelRecord,
        progress: Progress | None = None,
        others: Sequence[ModelRecord] = (),
    ) -> Pair:
        """Return a pair, loading what is not there.

        Raises
        ------
        FailedPrecondition
            As :func:`require_pair` and :func:`require_finite`; MODEL_CHANGED: files are not what was registered.
        """
        from services.grafting.engine import Grafter, ModelWeights, architecture_of

        records = (base, donor, *others)
        for each in records[1:]:
            require_pair(base, each)
        with self._lock:
            models = [self._model(record, progress or NullProgress(), len(records)) for record in records]
        first = models[0]
        architecture = architecture_of(first.module)
        for each, record in zip(models[1:], records[1:], strict=True):
            if found := list(shape_differences(first.module, each.module)):
                raise mismatch(base, record, found)
        mine, theirs, *rest = (ModelWeights(each.module, architecture) for each in models)
        grafter = Grafter((mine, theirs), architecture, first.device)
        tied = any(each.anatomy.tied for each in (mine, theirs, *rest))
        facts = Facts(architecture.layers, architecture.context, architecture.has_gate, tied)
        return Pair(
            (base, donor), grafter, (mine, theirs), facts, first.tokenizer, tuple(rest), first.eos_ids
        )

    @property
    def held(self) -> int:
        """How many models are in memory."""
        return len(self._models)

    def close(self) -> None:
        """Give all models up."""
        with self._lock:
            self._models.clear()

    def _model(self, record: ModelRecord, progress: Progress, together: int) -> Any:
        from palimpsest.lm import load

        found = self._models.get(record.fingerprint)
        if found is None:
            verify(record, self._settings, progress)
            while len(self._models) >= max(self._held, together):
                self._models.popitem(last=False)
            own = self._settings
            # A trainable model is not taken apart for serving; no gradient is ever asked of it here.
            found = load(
                record, own.device, own.dtype, trainable=True, threads=own.threads, cache_bytes=1 << 20
            )
            require_finite(found.module, record.model_id)
            self._models[record.fingerprint] = found
        self._models.move_to_end(record.fingerprint)
        return found
