"""What a plan must have, beyond the limits of its fields: an algorithm that takes it, and the data that this needs."""

from collections.abc import Mapping
from pathlib import Path

from palimpsest import json_input
from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Reason
from palimpsest.models import ModelCatalogue, ModelRecord
from services.unlearning.algorithms.algorithm import Algorithm
from services.unlearning.algorithms.registry import algorithm
from services.unlearning.corpora.overlap import MOST_SHARED, find_overlaps
from services.unlearning.removal.datasets.holdout import documents_of
from services.unlearning.removal.datasets.sets import DataSet
from services.unlearning.replay import Replay

IN_ONE_GO = ("tv", "repselect")
"""Algorithms that change the weights in one go, at the end."""
STARTED = ("retrain", "undo")
TAUGHT = ("bad_teaching",)
"""Algorithms that learn from another model, which never saw the data."""
"""Algorithms that begin with the weights of another model than the one named."""
_NO_MODEL = {
    "whp": "'whp' changes what a reinforced model adds while text is generated, and no weight. Use 'tv', which "
    "subtracts the same model from the weights.",
    "shard_adapters": "'shard_adapters' trains one adapter of those that serve a model which was taught by shards from "
    "the beginning, and no whole model. Use 'retrain', which is exact too, or train the shard's adapter again.",
}
MOST_DOCUMENTS = 1000
"""Documents of all corpora together that one request purges."""


def algorithm_of(name: str) -> Algorithm:
    """Return the algorithm of an id.

    Raises
    ------
    InvalidArgument
        ALGORITHM_UNKNOWN; ALGORITHM_NOT_TRAINED: it makes no new model.
    """
    if name in _NO_MODEL:
        raise InvalidArgument.field(Reason.ALGORITHM_NOT_TRAINED, "plan.algorithm", _NO_MODEL[name])
    return algorithm(name)


def start_of(models: ModelCatalogue, plan: pb.RemovalPlan, model: ModelRecord) -> ModelRecord | None:
    """Return the record of the model that a plan's algorithm begins with; None where that is the plan's own.

    Raises
    ------
    NotFound
        MODEL_NOT_FOUND.
    FailedPrecondition
        TOKENIZER_MISMATCH.
    InvalidArgument
        START_REQUIRED, START_INVALID.
    """
    if plan.algorithm not in STARTED:
        if plan.start:
            message = f"{plan.algorithm!r} begins with the weights of {plan.model!r}. Leave start out."
            raise InvalidArgument.field(Reason.START_INVALID, "plan.start", message)
        return None
    if not plan.start:
        what = (
            "the model before any of the data"
            if plan.algorithm == "retrain"
            else "one that was unlearned from it"
        )
        message = f"{plan.algorithm!r} begins with other weights than those of {plan.model!r}: name {what}."
        raise InvalidArgument.field(Reason.START_REQUIRED, "plan.start", message)
    found = models.get(plan.start)
    _require_tokenizer(found, model, "start")
    made_from_it = model.model_id in {each.model_id for each in models.lineage(plan.start).ancestors}
    if plan.algorithm == "undo" and not (made_from_it and found.relation == "RELATION_UNLEARNED"):
        message = (
            f"{plan.start!r} was not unlearned from {plan.model!r}, and 'undo' learns from one that was."
        )
        raise InvalidArgument.field(Reason.START_INVALID, "plan.start", message)
    if plan.algorithm == "retrain" and (made_from_it or found.fingerprint == model.fingerprint):
        message = f"{plan.start!r} has what {plan.model!r} has learnt. Name a model that never saw the data."
        raise InvalidArgument.field(Reason.START_INVALID, "plan.start", message)
    return found


def teacher_of(models: ModelCatalogue, plan: pb.RemovalPlan, model: ModelRecord) -> ModelRecord | None:
    """Return the record of the model that a plan's algorithm learns from; None where there is none.

    Raises
    ------
    NotFound
        MODEL_NOT_FOUND.
    FailedPrecondition
        TOKENIZER_MISMATCH.
    InvalidArgument
        ALGORITHM_INPUT_MISSING, REFERENCE_INVALID.
    """
    if plan.algorithm not in TAUGHT:
        if plan.teacher:
            message = f"{plan.algorithm!r} learns from no other model. Leave teacher out."
            raise InvalidArgument.field(Reason.REFERENCE_INVALID, "plan.teacher", message)
        return None
    if not plan.teacher:
        message = f"{plan.algorithm!r} learns from a model before any of the data: name it."
        raise InvalidArgument.field(Reason.ALGORITHM_INPUT_MISSING, "plan.teacher", message)
    found = reference_of(models, plan.teacher, model, "plan.teacher")
    if model.model_id in {each.model_id for each in models.lineage(plan.teacher).ancestors}:
        message = f"{plan.teacher!r} was made from {plan.model!r}. Name a model that never saw the data."
        raise InvalidArgument.field(Reason.REFERENCE_INVALID, "plan.teacher", message)
    return found


def require_replay(plan: pb.RemovalPlan, needs: frozenset[str]) -> Replay | None:
    """Return how much a plan's model says by itself before the run; None: nothing.

    Raises
    ------
    InvalidArgument
        INVALID_REQUEST.
    """
    if not plan.HasField("replay"):
        return None
    if "retain" not in needs:
        message = f"{plan.algorithm!r} trains on nothing that is to be kept. Leave replay out."
        raise InvalidArgument.field(Reason.INVALID_REQUEST, "plan.replay", message)
    if plan.HasField("search"):
        message = "A search does not try settings with a replay. Leave one of the two out."
        raise InvalidArgument.field(Reason.INVALID_REQUEST, "plan.replay", message)
    given = plan.replay
    usual = Replay()
    try:
        return Replay(
            given.draws or usual.draws,
            given.keep or usual.keep,
            given.tokens or usual.tokens,
            given.prompt or usual.prompt,
        )
    except InvalidArgument as error:
        raise InvalidArgument.field(Reason.INVALID_REQUEST, "plan.replay", str(error)) from None


def _require_tokenizer(found: ModelRecord, model: ModelRecord, role: str) -> None:
    if found.tokenizer_fingerprint != model.tokenizer_fingerprint:
        message = f"{found.model_id!r} has another tokenizer than {model.model_id!r}, so the two cannot be compared."
        raise FailedPrecondition(Reason.TOKENIZER_MISMATCH, message, metadata={role: found.model_id})


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
    _require_tokenizer(found, model, "reference")
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
    if plan.coalesce and plan.HasField("search"):
        message = (
            "A search chooses settings by one half of the request's own data, and 'coalesce' trains on other requests' "
            "as well. Leave one of the two out."
        )
        raise InvalidArgument.field(Reason.INVALID_REQUEST, "plan.coalesce", message)
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
    if plan.utility_budget and not {"utility", "retain"} & set(found):
        message = "utility_budget bounds the loss of what is to be kept. Give a utility or a retain set."
        raise InvalidArgument.field(Reason.INVALID_REQUEST, "plan.utility", message)
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
    if rule and plan.algorithm in STARTED:
        message = f"{plan.algorithm!r} takes all of its steps: before them its model is not the one that is asked for."
        raise InvalidArgument.field(Reason.INVALID_REQUEST, "plan.stopping", message)


def overlaps_of(found: Mapping[str, DataSet]) -> tuple[tuple[str, str, float], ...]:
    """What of the forget set is in the retain set: (forget id, retain id, share), largest share first."""
    if "retain" not in found:
        return ()
    large = [
        each
        for each in find_overlaps(documents_of(found["forget"]), documents_of(found["retain"]))
        if each.share > MOST_SHARED
    ]
    pairs = [(each.document, name, each.share) for each in large for name, _ in each.retained]
    return tuple(sorted(pairs, key=lambda pair: -pair[2]))


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
