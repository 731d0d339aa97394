"""Loading two models that can be grafted, and keeping them."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from palimpsest.models import ModelRecord, verify
from palimpsest.progress import NullProgress, Progress
from palimpsest.settings import Settings
from services.grafting.pairs.adapters import Adapter, AdapterRecord, Donor, read_adapter, require_own_base
from services.grafting.pairs.comparing import Facts, mismatch, require_finite, require_pair, shape_differences
from services.grafting.pairs.configs import config_of

if TYPE_CHECKING:
    from services.grafting.engine import Grafter, LowRankWeights, ModelWeights, Projections


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
        Of both. An adapter's are those of the base and what it adds.
    facts
        Of both; tied if either is.
    tokenizer
        The base's; the donor's gives the same ids.
    others
        Weights of further donors.
    ends
        Tokens that end a text of the base's.
    further
        Records of the others.
    """

    records: tuple[ModelRecord, Donor]
    grafter: "Grafter"
    weights: "tuple[ModelWeights, Projections]"
    facts: Facts
    tokenizer: Any = field(repr=False)
    others: "tuple[Projections, ...]" = ()
    ends: frozenset[int] = frozenset()
    further: tuple[Donor, ...] = ()


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
        self._adapters: OrderedDict[str, Adapter] = OrderedDict()
        self._lock = threading.Lock()

    def load(
        self,
        base: ModelRecord,
        donor: Donor,
        progress: Progress | None = None,
        others: Sequence[Donor] = (),
    ) -> Pair:
        """Return a pair, loading what is not there. Adapters act beside the base, which they share.

        Raises
        ------
        FailedPrecondition
            As :func:`require_pair` and :func:`require_finite`; MODEL_CHANGED: files are not what was registered.
        """
        from services.grafting.engine import Grafter, ModelWeights, architecture_of

        donors = (donor, *others)
        models = {each.fingerprint: each for each in (base, *donors) if isinstance(each, ModelRecord)}
        for each in donors:
            if isinstance(each, ModelRecord):
                require_pair(base, each)
        with self._lock:
            loaded = {
                key: self._model(record, progress or NullProgress(), len(models))
                for key, record in models.items()
            }
        first = loaded[base.fingerprint]
        architecture = architecture_of(first.module)
        for each in models.values():
            if found := list(shape_differences(first.module, loaded[each.fingerprint].module)):
                raise mismatch(base, each, found)
        mine = ModelWeights(first.module, architecture)
        weights = [
            self._beside(mine, base, each)
            if isinstance(each, AdapterRecord)
            else ModelWeights(loaded[each.fingerprint].module, architecture)
            for each in donors
        ]
        tied = mine.anatomy.tied or any(w.anatomy.tied for w in weights if isinstance(w, ModelWeights))
        facts = Facts(architecture.layers, architecture.context, architecture.has_gate, tied)
        theirs, *rest = weights
        grafter = Grafter((mine, theirs), architecture, first.device)
        return Pair(
            (base, donor),
            grafter,
            (mine, theirs),
            facts,
            first.tokenizer,
            tuple(rest),
            first.eos_ids,
            tuple(others),
        )

    @property
    def held(self) -> int:
        """How many models are in memory."""
        return len(self._models)

    def close(self) -> None:
        """Give all models up."""
        with self._lock:
            self._models.clear()
            self._adapters.clear()

    def _model(self, record: ModelRecord, progress: Progress, together: int) -> Any:
        from palimpsest.lm import load
        from services.grafting.engine.quantised import method_of

        found = self._models.get(record.fingerprint)
        if found is None:
            verify(record, self._settings, progress)
            while len(self._models) >= max(self._held, together):
                self._models.popitem(last=False)
            own = self._settings
            if method_of(config_of(Path(record.path))):
                found = _quantised(record, own)
            else:  # a trainable model is not taken apart for serving; no gradient is ever asked of it here
                found = load(
                    record, own.device, own.dtype, trainable=True, threads=own.threads, cache_bytes=1 << 20
                )
            require_finite(found.module, record.model_id)
            self._models[record.fingerprint] = found
        self._models.move_to_end(record.fingerprint)
        return found

    def _beside(self, base: "ModelWeights", record: ModelRecord, donor: AdapterRecord) -> "LowRankWeights":
        """Put an adapter beside the base, in the base's dtype and on its device."""
        from services.grafting.engine import LowRankWeights, deltas_of

        with self._lock:
            adapter = self._adapters.get(donor.digest) or read_adapter(donor)
            self._adapters[donor.digest] = adapter
            self._adapters.move_to_end(donor.digest)
            while len(self._adapters) > self._held:
                self._adapters.popitem(last=False)
        require_own_base(record, donor, adapter)
        like = base.model.get_input_embeddings().weight
        deltas = deltas_of(adapter.matrices(), base.model, record.model_id)
        return LowRankWeights(
            base,
            {at: d._replace(down=d.down.to(like), up=d.up.to(like)) for at, d in deltas.items()},
        )


class _Quantised(NamedTuple):
    """What a pair needs of a model; as :class:`palimpsest.lm.LanguageModel` has it."""

    module: Any
    tokenizer: Any
    device: Any
    eos_ids: frozenset[int]


def _quantised(record: ModelRecord, settings: Settings) -> _Quantised:
    """Load a model whose matrices stay quantised. Its own pass is never run: some packages repack the weights then."""
    import torch

    from palimpsest.lm.hardware import physical_cores, pick_device
    from palimpsest.lm.loading import load_module
    from palimpsest.lm.model import eos_ids_of

    device = pick_device(settings.device)
    if device.type == "cpu":
        torch.set_num_threads(settings.threads or physical_cores())
    dtype = "float32" if settings.dtype == "auto" else settings.dtype
    module, tokenizer = load_module(record.path, device, dtype, device_map={"": str(device)})
    return _Quantised(module.requires_grad_(False), tokenizer, device, eos_ids_of(module))
