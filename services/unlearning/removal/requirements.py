"""What a plan must have, beyond the limits of its fields: an algorithm that takes it, and the data that this needs."""

from collections.abc import Mapping
from pathlib import Path

from palimpsest import json_input
from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Reason
from palimpsest.models import ModelCatalogue, ModelRecord
from services.unlearning.algorithms.algorithm import SERVED, TRAINED, Algorithm
from services.unlearning.algorithms.registry import ALGORITHMS, algorithm
from services.unlearning.removal.sets import DataSet

IN_ONE_GO = ("tv", "repselect", "cir")
"""Algorithms that change the weights in one go, at the end."""


MOST_DOCUMENTS = 1000
"""Documents of all corpora together that one request purges."""


def algorithm_of(name: str) -> Algorithm:
    """Return the algorithm of an id.

    Raises
    ------
    InvalidArgument
        ALGORITHM_UNKNOWN: there is none, or it makes no new model from the one named.
    """
    found = algorithm(name)
    if not _is_carried_out(found):
        offered = ", ".join(each.id for each in ALGORITHMS.values() if _is_carried_out(each))
        message = f"{name!r} makes no new model from the one named. Requests take: {offered}."
        raise InvalidArgument.field(Reason.ALGORITHM_UNKNOWN, "plan.algorithm", message)
    return found


def _is_carried_out(found: Algorithm) -> bool:
    if found.kind == TRAINED:
        return "teacher" not in found.data
    return found.kind != SERVED and found.id in IN_ONE_GO


def values_of(given: Mapping[str, str]) -> dict[str, object]:
    """Hyper-parameters as the contract writes them, read: JSON, or else a word."""
    values: dict[str, object] = {}
    for name, text in given.items():
        try:
            values[name] = json_input.decode(text, max_bytes=256)
        except json_input.InvalidJson:
            values[name] = text  # a word
    return values


def reference_of(
    models: ModelCatalogue, name: str, model: ModelRecord, field: str = "plan.references"
) -> ModelRecord:
    """Return the record of a reference, or of another model that did not know, which ``field`` names.

    Raises
    ------
    NotFound
        MODEL_NOT_FOUND.
    FailedPrecondition
        TOKENIZER_MISMATCH.
    InvalidArgument
        REFERENCE_INVALID: it is the model itself.
    """
    found = models.get(name)
    if found.tokenizer_fingerprint != model.tokenizer_fingerprint:
        message = f"{name!r} has another tokenizer than {model.model_id!r}, so the two cannot be compared."
        raise FailedPrecondition(Reason.TOKENIZER_MISMATCH, message, metadata={"reference": name})
    if found.fingerprint == model.fingerprint:
        message = f"{name!r} is the model itself. A reference was trained without the forget set."
        raise InvalidArgument.field(Reason.REFERENCE_INVALID, field, message)
    return found


def require_names(plan: pb.RemovalPlan) -> None:
    """Check what a plan names by itself.

    Each thing is named once: evidence is kept by a store's name, and a model is no second reference to itself.

    Raises
    ------
    InvalidArgument
        INVALID_REQUEST.
    """
    if sum(len(each.documents) for each in plan.corpora) > MOST_DOCUMENTS:
        message = f"A request purges at most {MOST_DOCUMENTS} documents. Make several requests."
        raise InvalidArgument.field(Reason.INVALID_REQUEST, "plan.corpora", message)
    named = {
        "plan.corpora": [each.corpus for each in plan.corpora],
        "plan.ngram_stores": plan.ngram_stores,
        "plan.contexts": plan.contexts,
        "plan.references": plan.references,
        "plan.attacks.names": plan.attacks.names,
    }
    for field, names in named.items():
        twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
        if twice is not None:
            message = f"{twice!r} is named twice. Name it once, a corpus with all of its documents."
            raise InvalidArgument.field(Reason.INVALID_REQUEST, field, message)
    if plan.new_model == plan.model:
        message = "The new model needs an id of its own: the model it is made from is not changed."
        raise InvalidArgument.field(Reason.INVALID_REQUEST, "plan.new_model", message)


def require_data(
    plan: pb.RemovalPlan,
    found: Mapping[str, DataSet],
    needs: frozenset[str],
    references: tuple[ModelRecord, ...],
) -> None:
    """Check that the data is there that the algorithm and the stopping rule need.

    Raises
    ------
    InvalidArgument
        FORGET_SET_EMPTY, DATASET_INVALID, RETAIN_REQUIRED, REFERENCE_REQUIRED, INVALID_REQUEST.
    """
    for field, each in found.items():
        if not each.count:
            reason = Reason.FORGET_SET_EMPTY if field == "forget" else Reason.DATASET_INVALID
            message = f"The data set {field} has no line. Upload one with documents or questions."
            raise InvalidArgument.field(reason, f"plan.{field}", message)
    if "retain" in needs and "retain" not in found:
        message = f"{plan.algorithm!r} trains on what is to be kept. Give a retain set, or another algorithm."
        raise InvalidArgument.field(Reason.RETAIN_REQUIRED, "plan.retain", message)
    if "holdout" in found and not found["holdout"].documents:
        message = (
            "A holdout set is of documents; this one has questions only. Give documents, or leave it out."
        )
        raise InvalidArgument.field(Reason.DATASET_INVALID, "plan.holdout", message)
    rule = plan.stopping.rule
    if rule in ("privacy_match", "holdout_match") and (
        "holdout" not in found or not found["forget"].documents
    ):
        message = f"{rule!r} compares documents of the forget set with those of a holdout set. Give both."
        raise InvalidArgument.field(Reason.INVALID_REQUEST, "plan.holdout", message)
    if rule == "utility_floor" and not {"utility", "retain"} & set(found):
        message = "'utility_floor' measures what is to be kept. Give a utility or a retain set."
        raise InvalidArgument.field(Reason.INVALID_REQUEST, "plan.utility", message)
    if rule and rule != "holdout_match" and not references:
        message = f"{rule!r} stops at what references reach. Name models trained without the forget set."
        raise InvalidArgument.field(Reason.REFERENCE_REQUIRED, "plan.references", message)
    if rule and plan.algorithm in IN_ONE_GO:
        message = f"{plan.algorithm!r} changes the weights in one go, so there is nothing to stop."
        raise InvalidArgument.field(Reason.INVALID_REQUEST, "plan.stopping", message)


def require_free(models: ModelCatalogue, plan: pb.RemovalPlan, own: Path | None = None) -> None:
    """Check that the id of the new model is not taken, but by the model in a request's own folder.

    Raises
    ------
    AlreadyExists
        MODEL_EXISTS.
    """
    try:
        there = models.get(plan.new_model)
    except NotFound:
        return
    if own is not None and there.path == str(own):
        return
    message = f"{plan.new_model!r} names a model that exists. Choose another id for the new one, or delete that model."
    raise AlreadyExists(Reason.MODEL_EXISTS, message, metadata={"model": plan.new_model})
