"""A plan with everything it names looked up and checked: what a call refuses, and what the job works with."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.artifacts import ArtifactStore
from palimpsest.errors import InvalidArgument, Reason
from palimpsest.models import ModelCatalogue, ModelRecord
from palimpsest.training.recipe import LoraSettings, Recipe
from services.unlearning.algorithms.algorithm import Algorithm
from services.unlearning.algorithms.parameters import Parameters
from services.unlearning.removal.attack_plan import AttackPlan, attack_plan
from services.unlearning.removal.candidates import require_candidates
from services.unlearning.removal.datasets.holdout import (
    LengthMatch,
    Seen,
    length_match,
    require_unseen,
    seen_in_training,
)
from services.unlearning.removal.datasets.sets import DataSet, EncodedSet, encode_set, read_set
from services.unlearning.removal.requirements import (
    algorithm_of,
    overlaps_of,
    reference_of,
    require_data,
    require_names,
    require_replay,
    start_of,
    teacher_of,
    values_of,
)
from services.unlearning.replay import Replay
from services.unlearning.splits import Half

EPOCHS, BATCH, SEQUENCE, CHECKPOINT_STEPS = 5, 8, 512, 50
"""Defaults: passes over the forget set, examples of a step, tokens of a sequence, steps between checkpoints."""
LEARNING_RATE, ADAPTER_RATE = 1e-5, 1e-4
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
    algorithm, parameters, values
        How; the values are those that the plan chose.
    recipe
        How to train. Its settings are all chosen.
    overlaps
        What of the forget set is in the retain set: (forget id, retain id, share), largest share first.
    seen
        What of the holdout set is in the forget or the retain set.
    lengths
        Whether documents of the forget and the holdout set are alike in length; None where they are not compared.
    pad
        Token id that fills rows up; which one makes no difference, as masks tell padding apart.
    device
        Where models are loaded.
    attacks
        What is tried on the new model.
    start
        Record of the model that the run begins with, if that is not ``model``.
    teacher
        Record of the model that the algorithm learns from, if there is one.
    replay
        How much the model says by itself before the run; None: nothing.
    """

    plan: pb.RemovalPlan
    model: ModelRecord
    references: tuple[ModelRecord, ...]
    lineage: str
    sets: Mapping[str, EncodedSet]
    algorithm: Algorithm
    parameters: Parameters
    values: Mapping[str, object]
    recipe: Recipe
    overlaps: tuple[tuple[str, str, float], ...]
    seen: tuple[Seen, ...]
    lengths: LengthMatch | None
    pad: int
    device: str
    attacks: AttackPlan
    start: ModelRecord | None = None
    teacher: ModelRecord | None = None
    replay: Replay | None = None

    @property
    def begun_with(self) -> ModelRecord:
        """Record of the model whose weights the run begins with."""
        return self.start or self.model

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
        """Steps between two looks of a stopping rule; of CIR, rounds, each of which reads the whole forget set."""
        if self.algorithm.id == "cir":
            return self.plan.stopping.every_steps or 1
        epoch = -(-len(self.forget.examples) // self.recipe.batch)
        return self.plan.stopping.every_steps or epoch

    def half(self, half: Half) -> "ResolvedPlan":
        """Return the plan with one half of each data set."""
        return replace(self, sets={field: each.half(half) for field, each in self.sets.items()})

    def training_on(self, forget: EncodedSet) -> "ResolvedPlan":
        """Return the plan with another forget set, and with as many steps as it has by default for that."""
        sets = {**self.sets, "forget": forget}
        examples = len(sets["retain" if self.start else "forget"].examples)
        steps = self.plan.training.steps or _default_steps(examples, self.recipe.batch)
        return replace(self, sets=sets).with_steps(steps)

    def with_steps(self, steps: int) -> "ResolvedPlan":
        """Return the plan with another number of steps."""
        return replace(self, recipe=replace(self.recipe, steps=steps))

    @property
    def measured_on(self) -> "ResolvedPlan":
        """The plan with what its models are measured on: the half that a search did not see, or all."""
        return self.half("certify") if self.plan.HasField("search") else self

    def chosen_parameters(self) -> dict[str, str]:
        """Hyper-parameters with their defaults, as the contract writes them."""
        return {name: json.dumps(value) for name, value in sorted(vars(self.parameters).items())}

    def require_no_overlap(self) -> None:
        """Refuse a plan whose retain set would teach again what is to be forgotten, or whose holdout set was seen.

        Raises
        ------
        InvalidArgument
            FORGET_RETAIN_OVERLAP, FORGET_HOLDOUT_OVERLAP, HOLDOUT_RETAIN_OVERLAP; metadata lists the ids, never a text.
        """
        require_unseen(self.seen)
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
    named = (*(getattr(plan, field) for field in _FIELDS), plan.attacks.unrelated)
    return list(dict.fromkeys(filter(None, named)))


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
    chosen = algorithm_of(plan.algorithm)
    values = values_of(plan.parameters)
    parameters = chosen.parse(values)
    model = models.get(plan.model)
    start = start_of(models, plan, model)
    teacher = teacher_of(models, plan, model)
    replay = require_replay(plan, chosen.needs(parameters))
    references = tuple(reference_of(models, name, model) for name in plan.references)
    require_names(plan)
    found = {
        field: read_set(artifacts, getattr(plan, field), field) for field in _FIELDS if getattr(plan, field)
    }
    require_data(plan, found, chosen.needs(parameters), references)
    if plan.HasField("search"):
        require_candidates(plan, chosen, values)
        for each in found.values():
            each.require_halves()
    tokenizer = tokenizer_of(model)
    encode = encoder_of(plan, model, tokenizer)
    sets = {field: encode(each) for field, each in found.items()}
    recipe = _recipe(plan.training, len(sets["retain" if start else "forget"].examples), threads)
    return ResolvedPlan(
        plan,
        model,
        references,
        lineage_of(models, model),
        sets,
        chosen,
        parameters,
        values,
        recipe,
        overlaps_of(found),
        seen_in_training(found),
        length_match(sets, model.context_length),
        _pad_of(tokenizer),
        device,
        attack_plan(plan.attacks, found, model, models, artifacts, recipe, encode),
        start,
        teacher,
        replay,
    )


def encoder_of(plan: pb.RemovalPlan, model: ModelRecord, tokenizer: Any) -> Callable[[DataSet], EncodedSet]:
    """Return what encodes a plan's data sets as its model reads them.

    Raises
    ------
    InvalidArgument
        INVALID_REQUEST: sequences are longer than the model reads.
    """
    longest = _longest(plan.training, model)
    return lambda each: encode_set(each, tokenizer, longest)


def lineage_of(models: ModelCatalogue, model: ModelRecord) -> str:
    """Fingerprint of the root of a model's lineage."""
    return (models.lineage(model.model_id).ancestors or [model])[-1].fingerprint


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
        steps=training.steps or _default_steps(examples, batch),
        learning_rate=training.learning_rate or (ADAPTER_RATE if adapter else LEARNING_RATE),
        batch=batch,
        schedule=training.schedule or "constant",
        warmup_steps=training.warmup_steps,
        weight_decay=training.weight_decay,
        seed=training.seed,
        threads=threads,
        adapter=adapter,
    )


def _default_steps(examples: int, batch: int) -> int:
    return EPOCHS * -(-examples // batch)


def _pad_of(tokenizer: Any) -> int:
    found = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(int(each) for each in found if each is not None)
