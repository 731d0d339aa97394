"""Making the new weights: the module of the model before becomes that of the model after, in place."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from palimpsest.progress import Progress
from palimpsest.training import adapters
from palimpsest.training.batches import Example
from palimpsest.training.checkpoints import Checkpoints
from palimpsest.training.history import History
from palimpsest.training.order import derived_seed
from palimpsest.training.saving import is_finite
from services.unlearning.algorithms.reference import frozen_copy
from services.unlearning.algorithms.refusals import refusals_for
from services.unlearning.metrics.generation import eos_ids_of
from services.unlearning.removal.curves import LOOKS, looks_of
from services.unlearning.removal.models import loaded
from services.unlearning.removal.plan import CHECKPOINT_STEPS, ResolvedPlan
from services.unlearning.removal.stopping import guard_of, watch_of
from services.unlearning.replay import replayed
from services.unlearning.runs import Data, unlearn
from services.unlearning.stopping.watch import Choice, Watch
from services.unlearning.workspace import Workspace


def make_weights(
    plan: ResolvedPlan,
    module: nn.Module,
    tokenizer: Any,
    space: Workspace,
    progress: Progress,
    said: Sequence[Example] = (),
) -> History:
    """Carry out a plan's algorithm on a module, or go on where an earlier attempt stopped.

    Parameters
    ----------
    plan
        What to do.
    module
        The model that the plan begins with: transformers' own, float32, in evaluation mode. It becomes the model after.
    tokenizer
        Its tokenizer.
    space
        Where states are kept.
    progress
        Told of every step; may raise to stop between two.
    said
        What :func:`said_by` returned of the model before; kept beside the retain set.

    Returns
    -------
    History
        If it diverged, the module is of no use.

    Raises
    ------
    InvalidArgument
        ALGORITHM_INPUT_MISSING: documents, where the algorithm needs questions with answers.
    FailedPrecondition
        REFERENCE_MISSING: a metric of the stopping rule that the references do not have.
    DataLoss
        CHECKPOINT_DAMAGED.
    ResourceExhausted
        DISK_FULL.
    """
    watch = _watch(plan, module, tokenizer, space, progress)

    def keep(choice: Choice) -> None:
        space.write(LOOKS, looks_of(choice))

    return trained_for(plan, module, tokenizer, progress, _checkpoints(plan, space), watch, keep, said)


def said_by(plan: ResolvedPlan, module: nn.Module, tokenizer: Any, progress: Progress) -> list[Example]:
    """What the model before says by itself, if the plan has a replay; the same each time, on the same threads.

    Parameters
    ----------
    plan
        With the whole forget set of the run.
    module, tokenizer
        The model before the request.
    progress
        Told that it is under way; may raise to stop between two passes.
    """
    if plan.replay is None:
        return []
    progress.step(0, 0, "replaying")
    return replayed(
        module,
        plan.sets["retain"].examples,
        plan.forget.examples,
        tokenizer.decode,
        plan.replay,
        stop=set(eos_ids_of(module, tokenizer)),
        seed=plan.recipe.seed,
        check=progress.check,
    )


def trained_for(
    plan: ResolvedPlan,
    module: nn.Module,
    tokenizer: Any,
    progress: Progress,
    checkpoints: Checkpoints | None = None,
    watch: Watch | None = None,
    looked: Callable[[Choice], None] | None = None,
    said: Sequence[Example] = (),
) -> History:
    """Carry out a plan's algorithm on a module from its first step, or from that of a state in ``checkpoints``.

    Parameters
    ----------
    plan, module, tokenizer, progress
        As in :func:`make_weights`, which see for the errors as well.
    checkpoints
        Where states are kept; None: nowhere.
    watch
        Begun; ends the run, and puts the best weights into the module.
    looked
        Told what the watch has seen and chosen.
    said
        Sequences that are kept beside the retain set.
    """
    data = _data(plan, tokenizer)
    found = unlearn(
        module,
        plan.algorithm.id,
        replace(data, retain=[*data.retain, *said]) if said else data,
        plan.recipe,
        progress=progress,
        parameters=plan.values,
        reference=frozen_copy(loaded(plan.teacher, plan).module) if plan.teacher else None,
        checkpoints=checkpoints,
        probe=watch,
    )
    history = found or History()
    if watch is not None and not history.diverged:
        choice = watch.finish()
        if looked is not None:
            looked(choice)
        if guard_of(plan).judge([choice.measurement]) is not None:  # no state that was seen was sound
            history.stopped = "diverged"
    if adapters.is_attached(module) and not history.diverged:
        adapters.merge(module)
    if not is_finite(module):
        # By the last step, whose loss was that of the weights before it, or by an edit, which has no loss. Not every
        # metric tells: a model that puts out NaN still has likeliest tokens.
        history.stopped = "diverged"
    return history


def _watch(
    plan: ResolvedPlan, module: nn.Module, tokenizer: Any, space: Workspace, progress: Progress
) -> Watch | None:
    if plan.plan.stopping.rule and plan.recipe.adapter is not None:
        # The watch keeps the weights that train, and so begins once the adapter is there.
        adapters.attach(module, plan.recipe.adapter, derived_seed(plan.recipe.seed, "adapter"))
    return watch_of(plan, module, tokenizer, space, progress)


def _data(plan: ResolvedPlan, tokenizer: Any) -> Data:
    forget, retain = plan.forget.examples, plan.sets.get("retain")
    needs = plan.algorithm.needs(plan.parameters)
    return Data(
        forget,
        retain.examples if retain else (),
        refusals_for(forget, tokenizer) if "alternatives" in needs else (),
        plan.pad,
    )


def _checkpoints(plan: ResolvedPlan, space: Workspace) -> Checkpoints:
    more: dict[str, Any] = {"teacher": plan.teacher.fingerprint} if plan.teacher else {}
    if plan.replay is not None:
        more["replay"] = vars(plan.replay)
    return Checkpoints(
        space.checkpoints,
        plan.plan.training.checkpoint_steps or CHECKPOINT_STEPS,
        identity={
            **more,
            "model": plan.model.fingerprint,
            "start": plan.begun_with.fingerprint,
            "forget": plan.forget.source.artifact,
            "retain": plan.plan.retain,
            "algorithm": plan.algorithm.id,
            "parameters": plan.chosen_parameters(),
            "stopping": [plan.plan.stopping.rule, plan.plan.stopping.every_steps],
        },
    )
