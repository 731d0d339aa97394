"""Two models that can be grafted: what keeps them apart, and loading them."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palimpsest.errors import FailedPrecondition, PalimpsestError, Reason, Violation
from palimpsest.models import ModelRecord, verify
from palimpsest.models.pair import tokenizer_differences
from palimpsest.progress import NullProgress, Progress
from palimpsest.settings import Settings

if TYPE_CHECKING:
    from services.grafting.engine import Grafter, ModelWeights

_HARMLESS = (
    "architectures", "bos_token_id", "dtype", "eos_token_id", "initializer_range", "pad_token_id",
    "tie_word_embeddings", "torch_dtype", "transformers_version", "use_cache",
    "attention_dropout", "attn_pdrop", "embd_pdrop", "hidden_dropout", "resid_pdrop", "classifier_dropout",
)  # fmt: skip
"""Keys of a config that change nothing of a pass, or that the weights themselves tell."""
_NAMED = 10


@dataclass(frozen=True)
class Difference:
    """One key of the configs, or one tensor's shape, that keeps weights of the donor out of the base."""

    key: str
    base: str
    donor: str


@dataclass(frozen=True)
class Facts:
    """What selections are checked against; a config tells it without any weights.

    Parameters
    ----------
    layers, context
        Counts of layers, and of tokens at most.
    has_gate
        Whether there is a ``gate``.
    tied
        Whether embedding and head are one matrix.
    """

    layers: int
    context: int
    has_gate: bool
    tied: bool


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


def differences_of(base: Path, donor: Path) -> list[Difference]:
    """Compare two models' configs as transformers reads them, in the order of their keys.

    Raises
    ------
    FailedPrecondition
        UNSUPPORTED_ARCH: one of them cannot be grafted at all. MODEL_INVALID: a config cannot be read.
    """
    from services.grafting.engine.architecture import refuse_by_config

    configs = [config_of(folder) for folder in (base, donor)]
    for config in configs:
        refuse_by_config(config)
    mine, other = (config.to_dict() for config in configs)
    keys = sorted((mine.keys() | other.keys()) - set(_HARMLESS))
    return [
        Difference(key, repr(mine.get(key)), repr(other.get(key)))
        for key in keys
        if not key.startswith("_") and mine.get(key) != other.get(key)
    ]


def facts_of(record: ModelRecord) -> Facts:
    """Read the facts of a model that can be grafted, without its weights.

    Raises
    ------
    FailedPrecondition
        UNSUPPORTED_ARCH, MODEL_INVALID.
    """
    from services.grafting.engine.architecture import has_gate, refuse_by_config

    config = config_of(Path(record.path))
    refuse_by_config(config)
    return Facts(
        layers=int(config.num_hidden_layers),
        context=int(config.max_position_embeddings),
        has_gate=has_gate(str(config.model_type)),
        tied=bool(config.tie_word_embeddings),
    )


def config_of(folder: Path) -> Any:
    """Read a model's config as transformers does.

    Raises
    ------
    FailedPrecondition
        MODEL_INVALID.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise FailedPrecondition(
            Reason.MODEL_INVALID, f"The config in {folder} cannot be read: {error}"
        ) from error


def require_pair(base: ModelRecord, donor: ModelRecord) -> None:
    """Refuse two models whose weights cannot act in one pass, before either is loaded.

    Raises
    ------
    FailedPrecondition
        UNSUPPORTED_ARCH; ARCH_MISMATCH with a violation for each key that differs; TOKENIZER_MISMATCH.
    """
    if found := differences_of(Path(base.path), Path(donor.path)):
        raise mismatch(base, donor, found)
    if told := tokenizer_differences(Path(base.path), Path(donor.path)):
        raise FailedPrecondition(
            Reason.TOKENIZER_MISMATCH,
            f"{base.model_id} and {donor.model_id} read text differently: {told[0]}. Graft models of one tokenizer.",
            metadata={"base": base.model_id, "donor": donor.model_id},
        )


def mismatch(base: ModelRecord, donor: ModelRecord, found: list[Difference]) -> FailedPrecondition:
    """Return the error for models of different architectures, which names all differences."""
    keys = ", ".join(difference.key for difference in found)
    return FailedPrecondition(
        Reason.ARCH_MISMATCH,
        f"Weights of {donor.model_id} do not fit into {base.model_id}: they differ in {keys}. Graft two models of one "
        "architecture and size.",
        violations=[
            Violation(d.key, f"{d.base[:200]} in the base and {d.donor[:200]} in the donor")
            for d in found[:50]
        ],
        metadata={"keys": keys[:1000]},
    )


def require_finite(model: Any, name: str) -> None:
    """Refuse a model with weights that are NaN or infinite.

    Raises
    ------
    FailedPrecondition
        NON_FINITE_WEIGHTS: the message names the tensors.
    """
    import torch

    broken = [key for key, value in model.named_parameters() if not bool(torch.isfinite(value).all())]
    if broken:
        some = ", ".join(broken[:_NAMED]) + (" and others" if len(broken) > _NAMED else "")
        raise FailedPrecondition(
            Reason.NON_FINITE_WEIGHTS,
            f"{name} has weights that are not finite in {some}. Every reading would be NaN: use another checkpoint.",
            metadata={"model": name, "tensors": len(broken)},
        )


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
            if found := list(_shapes(first.module, each.module)):
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


def _shapes(base: Any, donor: Any) -> Iterator[Difference]:
    """Parameters of different shapes, which configs do not tell (a padded vocabulary, say)."""
    theirs = {name: tuple(value.shape) for name, value in donor.named_parameters(remove_duplicate=False)}
    mine = {name: tuple(value.shape) for name, value in base.named_parameters(remove_duplicate=False)}
    for name in sorted(mine.keys() | theirs.keys()):
        if mine.get(name) != theirs.get(name):
            yield Difference(name, repr(mine.get(name)), repr(theirs.get(name)))


def refusal(error: PalimpsestError) -> list[str]:
    """Say why a pair was refused, a line for each difference."""
    return [f"{v.field}: {v.description}" for v in error.violations] or [error.message]
