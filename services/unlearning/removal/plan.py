"""A plan with everything it names looked up and checked: what a call refuses, and what the job works with."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from palimpsest import json_input
from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.artifacts import ArtifactStore
from palimpsest.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Reason
from palimpsest.models import ModelCatalogue, ModelRecord
from palimpsest.training.recipe import LoraSettings, Recipe
from services.unlearning.algorithms.algorithm import SERVED, TRAINED, Algorithm
from services.unlearning.algorithms.parameters import Parameters
from services.unlearning.algorithms.registry import ALGORITHMS, algorithm
from services.unlearning.corpora.overlap import MOST_SHARED, find_overlaps
from services.unlearning.corpora.records import Document
from services.unlearning.removal.sets import DataSet, EncodedSet, encode_set, read_set

EPOCHS, BATCH, SEQUENCE, CHECKPOINT_STEPS = 5, 8, 512, 50
"""Defaults: passes over the forget set, examples of a step, tokens of a sequence, steps between checkpoints."""
LEARNING_RATE, ADAPTER_RATE = 1e-5, 1e-4
MOST_DOCUMENTS = 1000
"""Documents of all corpora together that one request purges."""
_NAMED = 100
_FIELDS = ("forget", "retain", "holdout", "utility")


@dataclass(frozen=True)
class ResolvedPlan:
    """A plan that can be carried out.

    Attributes
    ----------
    plan
        As it was sent.
    model, references
        Records of the models it names.
    lineage
        Fingerprint of the root of the model's lineage.
    sets
        Data sets by the plan's field; those it does not name are missing.
    algorithm, parameters
        How.
    recipe
        How to train. Its settings are all chosen.
    overlaps
        What of the forget set is in the retain set: (forget id, retain id, share), largest share first.
    pad
        Token id that fills rows up; which one makes no difference, as masks tell padding apart.
    device
        Where models are loaded.
    """

    plan: pb.RemovalPlan
    model: ModelRecord
    references: tuple[ModelRecord, ...]
    lineage: str
    sets: Mapping[str, EncodedSet]
    algorithm: Algorithm
    parameters: Parameters
    recipe: Recipe
    overlaps: tuple[tuple[str, str, float], ...]
    pad: int
    device: str

    @property
    def forget(self) -> EncodedSet:
        """The forget set."""
        return self.sets["forget"]

    @property
    def digests(self) -> list[str]:
        """Digests of all its artefacts."""
        return digests_of(self.plan)

    @property
    def probe_steps(self) -> int:
        """Steps between two looks of a stopping rule."""
        epoch = -(-len(self.forget.examples) // self.recipe.batch)
        return self.plan.stopping.every_steps or epoch

    def chosen_parameters(self) -> dict[str, str]:
        """Hyper-parameters with their defaults, as the contract writes them."""
        return {name: json.dumps(value) for name, value in sorted(vars(self.parameters).items())}

    def require_no_overlap(self) -> None:
        """Refuse a plan whose retain set would teach again what is to be forgotten.

        Raises
        ------
        InvalidArgument
            FORGET_RETAIN_OVERLAP; metadata lists the ids, never a text.
        """
        if not self.overlaps:
            return
        pairs = [[forget, retain] for forget, retain, _ in self.overlaps[:_NAMED]]
        documents = len({forget for forget, _, _ in self.overlaps})
        named = ", ".join(f"{forget!r} in {retain!r}" for forget, retain in pairs[:5])
        message = (
            f"{documents} entries of the forget set are in the retain set too, which would teach them again: {named}"
            f"{' and others' if len(self.overlaps) > 5 else ''}. Take them out of the retain set."
        )
        raise InvalidArgument.field(
            Reason.FORGET_RETAIN_OVERLAP,
            "plan.retain",
            message,
            documents=documents,
            overlaps=json.dumps(pairs),
        )


def digests_of(plan: pb.RemovalPlan) -> list[str]:
    """Digests of the artefacts that a plan names, each once."""
    return list(dict.fromkeys(filter(None, (getattr(plan, field) for field in _FIELDS))))


def resolve(
    plan: pb.RemovalPlan,
    models: ModelCatalogue,
    artifacts: ArtifactStore,
    tokenizer_of: Callable[[ModelRecord], Any],
    threads: int = 0,
    device: str = "cpu",
) -> ResolvedPlan:
    """Look up and check everything that a plan names but the stores to purge. Reads the data sets.

    Parameters
    ----------
    plan
        From a request; the caller may see the artefacts that it names.
    models, artifacts
        Where to look.
    tokenizer_of
        Loads a model's tokenizer.
    threads, device
        Of training.

    Raises
    ------
    InvalidArgument, NotFound, FailedPrecondition, DataLoss
        See CreateRemovalRequest; an overlap is not refused here.
    """
    chosen = _algorithm(plan.algorithm)
    parameters = chosen.parse(_values(plan.parameters))
    model = models.get(plan.model)
    references = tuple(_reference(models, name, model) for name in plan.references)
    if sum(len(each.documents) for each in plan.corpora) > MOST_DOCUMENTS:
        message = f"A request purges at most {MOST_DOCUMENTS} documents. Make several requests."
        raise InvalidArgument.field(Reason.INVALID_REQUEST, "plan.corpora", message)
    if plan.new_model == plan.model:
        message = "The new model needs an id of its own: the model it is made from is not changed."
        raise InvalidArgument.field(Reason.INVALID_REQUEST, "plan.new_model", message)
    found = {field: read_set(artifacts, getattr(plan, field), field) for field in _FIELDS if getattr(plan, field)}
    _require_data(plan, found, chosen.needs(parameters), references)
    tokenizer = tokenizer_of(model)
    longest = _longest(plan.training, model)
    sets = {field: encode_set(each, tokenizer, longest) for field, each in found.items()}
    return ResolvedPlan(
        plan,
        model,
        references,
        lineage_of(models, model),
        sets,
        chosen,
        parameters,
        _recipe(plan.training, len(sets["forget"].examples), threads),
        _overlaps(found),
        _pad_of(tokenizer),
        device,
    )


def lineage_of(models: ModelCatalogue, model: ModelRecord) -> str:
    """Fingerprint of the root of a model's lineage."""
    return (models.lineage(model.model_id).ancestors or [model])[-1].fingerprint


def _algorithm(name: str) -> Algorithm:
    found = algorithm(name)
    if not _is_carried_out(found):
        offered = ", ".join(each.id for each in ALGORITHMS.values() if _is_carried_out(each))
        message = f"{name!r} makes no new model from the one named. Requests take: {offered}."
        raise InvalidArgument.field(Reason.ALGORITHM_UNKNOWN, "plan.algorithm", message)
    return found


def _is_carried_out(found: Algorithm) -> bool:
    if found.kind == TRAINED:
        return "teacher" not in found.data
    return found.kind != SERVED and found.id in ("tv", "repselect")


def _values(given: Mapping[str, str]) -> dict[str, object]:
    values: dict[str, object] = {}
    for name, text in given.items():
        try:
            values[name] = json_input.decode(text, max_bytes=256)
        except json_input.InvalidJson:
            values[name] = text  # a word
    return values


def _reference(models: ModelCatalogue, name: str, model: ModelRecord) -> ModelRecord:
    found = models.get(name)
    if found.tokenizer_fingerprint != model.tokenizer_fingerprint:
        message = f"{name!r} has another tokenizer than {model.model_id!r}, so the two cannot be compared."
        raise FailedPrecondition(Reason.TOKENIZER_MISMATCH, message, metadata={"reference": name})
    if found.fingerprint == model.fingerprint:
        message = f"{name!r} is the model itself. A reference was trained without the forget set."
        raise InvalidArgument.field(Reason.REFERENCE_INVALID, "plan.references", message)
    return found


def _require_data(
    plan: pb.RemovalPlan,
    found: Mapping[str, DataSet],
    needs: frozenset[str],
    references: tuple[ModelRecord, ...],
) -> None:
    for field, each in found.items():
        if not each.count:
            reason = Reason.FORGET_SET_EMPTY if field == "forget" else Reason.DATASET_INVALID
            message = f"The data set {field} has no line. Upload one with documents or questions."
            raise InvalidArgument.field(reason, f"plan.{field}", message)
    if "retain" in needs and "retain" not in found:
        message = f"{plan.algorithm!r} trains on what is to be kept. Give a retain set, or take an algorithm without one."
        raise InvalidArgument.field(Reason.RETAIN_REQUIRED, "plan.retain", message)
    if "holdout" in found and not found["holdout"].documents:
        message = "A holdout set is of documents; this one has questions only. Give documents, or leave it out."
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
    if rule and plan.algorithm in ("tv", "repselect"):
        message = f"{plan.algorithm!r} changes the weights in one go, so there is nothing to stop."
        raise InvalidArgument.field(Reason.INVALID_REQUEST, "plan.stopping", message)


def _longest(training: pb.Training, model: ModelRecord) -> int:
    limit = model.context_length or SEQUENCE
    longest = training.sequence_tokens or min(SEQUENCE, limit)
    if not 2 <= longest <= limit:
        message = f"Sequences have 2 to {limit} tokens with this model, not {longest}."
        raise InvalidArgument.field(Reason.INVALID_REQUEST, "plan.training.sequence_tokens", message)
    return longest


def _recipe(training: pb.Training, examples: int, threads: int) -> Recipe:
    batch = training.batch or BATCH
    adapter = LoraSettings(training.lora_rank, training.lora_alpha) if training.lora_rank else None
    return Recipe(
        steps=training.steps or EPOCHS * -(-examples // batch),
        learning_rate=training.learning_rate or (ADAPTER_RATE if adapter else LEARNING_RATE),
        batch=batch,
        schedule=training.schedule or "constant",
        warmup_steps=training.warmup_steps,
        weight_decay=training.weight_decay,
        seed=training.seed,
        threads=threads,
        adapter=adapter,
    )


def _pad_of(tokenizer: Any) -> int:
    found = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(int(each) for each in found if each is not None)


def _overlaps(found: Mapping[str, DataSet]) -> tuple[tuple[str, str, float], ...]:
    if "retain" not in found:
        return ()
    large = [
        each
        for each in find_overlaps(_documents(found["forget"]), _documents(found["retain"]))
        if each.share > MOST_SHARED
    ]
    pairs = [(each.document, name, each.share) for each in large for name, _ in each.retained]
    return tuple(sorted(pairs, key=lambda pair: -pair[2]))


def _documents(found: DataSet) -> list[Document]:
    """Entries as documents, questions with their answers."""
    return [Document(id=name, split="forget", text=text) for name, _, text in found.texts()]


def require_free(models: ModelCatalogue, plan: pb.RemovalPlan) -> None:
    """Check that the id of the new model is not taken.

    Raises
    ------
    AlreadyExists
        MODEL_EXISTS.
    """
    try:
        models.get(plan.new_model)
    except NotFound:
        return
    message = f"{plan.new_model!r} names a model that exists. Choose another id for the new one, or delete that model."
    raise AlreadyExists(Reason.MODEL_EXISTS, message, metadata={"model": plan.new_model})
