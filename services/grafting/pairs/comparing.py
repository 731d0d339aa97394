"""What keeps the weights of two models apart, told by their configs, tokenizers and tensors."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palimpsest.errors import FailedPrecondition, PalimpsestError, Reason, Violation
from palimpsest.models import ModelRecord
from palimpsest.models.pair import tokenizer_differences
from services.grafting.pairs.adapters import AdapterRecord, Donor, require_fits
from services.grafting.pairs.configs import config_of

_HARMLESS = (
    "architectures", "bos_token_id", "dtype", "eos_token_id", "initializer_range", "pad_token_id",
    "quantization_config", "tie_word_embeddings", "torch_dtype", "transformers_version", "use_cache",
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


def require_pair(base: ModelRecord, donor: Donor) -> None:
    """Refuse two models whose weights cannot act in one pass, before either is loaded.

    Raises
    ------
    FailedPrecondition
        UNSUPPORTED_ARCH; ARCH_MISMATCH with a violation for each key that differs; TOKENIZER_MISMATCH. Of an adapter as
        :func:`require_fits`.
    """
    if isinstance(donor, AdapterRecord):
        require_fits(base, donor)
        return
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

    floats = ((key, value) for key, value in model.named_parameters() if value.is_floating_point())
    broken = [key for key, value in floats if not bool(torch.isfinite(value).all())]
    if broken:
        some = ", ".join(broken[:_NAMED]) + (" and others" if len(broken) > _NAMED else "")
        raise FailedPrecondition(
            Reason.NON_FINITE_WEIGHTS,
            f"{name} has weights that are not finite in {some}. Every reading would be NaN: use another checkpoint.",
            metadata={"model": name, "tensors": len(broken)},
        )


def shape_differences(base: Any, donor: Any) -> Iterator[Difference]:
    """Parameters of different shapes, which configs do not tell (a padded vocabulary, say)."""
    theirs, mine = (
        {
            name: _shape(model.get_submodule(name.rpartition(".")[0]), value)
            for name, value in model.named_parameters(remove_duplicate=False)
        }
        for model in (donor, base)
    )
    for name in sorted(mine.keys() | theirs.keys()):
        if mine.get(name) != theirs.get(name):
            yield Difference(name, repr(mine.get(name)), repr(theirs.get(name)))


def _shape(module: Any, value: Any) -> tuple[int, ...]:
    """The shape of a parameter; of a matrix outputs and inputs, however the module keeps it."""
    from services.grafting.engine.low_rank import sizes_of
    from services.grafting.engine.quantised import is_quantised

    plain = value.ndim != 2 or not (is_quantised(module) or hasattr(module, "nf"))
    return tuple(value.shape) if plain else sizes_of(module)


def refusal(error: PalimpsestError) -> list[str]:
    """Say why a pair was refused, a line for each difference."""
    return [f"{v.field}: {v.description}" for v in error.violations] or [error.message]
