"""Making the new weights: the module of the model before becomes that of the model after, in place."""

import copy
from typing import Any

from torch import nn

from palimpsest.progress import Progress
from palimpsest.training import adapters
from palimpsest.training.checkpoints import Checkpoints
from palimpsest.training.history import History
from palimpsest.training.loop import train
from palimpsest.training.order import derived_seed
from services.unlearning.algorithms.inputs import Inputs
from services.unlearning.algorithms.objective import Combined
from services.unlearning.algorithms.reference import frozen_copy
from services.unlearning.algorithms.refusals import refusals_for
from services.unlearning.algorithms.repselect import RepSelectParameters, selective_directions, walk
from services.unlearning.algorithms.task_vector import TaskVectorParameters, subtract
from services.unlearning.removal.plan import CHECKPOINT_STEPS, ResolvedPlan
from services.unlearning.removal.stopping import watch_of
from services.unlearning.removal.workspace import Workspace


def make_weights(
    plan: ResolvedPlan, module: nn.Module, tokenizer: Any, space: Workspace, progress: Progress
) -> History:
    """Carry out a plan's algorithm on a module, or go on where an earlier attempt stopped.

    Parameters
    ----------
    plan
        What to do.
    module
        The model before: transformers' own, float32, in evaluation mode. It becomes the model after.
    tokenizer
        Its tokenizer.
    space
        Where states are kept.
    progress
        Told of every step; may raise to stop between two.

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
    inputs = _inputs(plan, module, tokenizer)
    parameters = plan.parameters
    if isinstance(parameters, RepSelectParameters):
        progress.step(0, 1, "training")
        walk(module, selective_directions(parameters, inputs), parameters.strength)
        return History()
    if isinstance(parameters, TaskVectorParameters):
        # The module becomes the reinforced model, and then the result; the copy holds the weights before.
        before = copy.deepcopy(module)
        history = _train(plan, module, _objective(plan, inputs), space, progress)
        if not history.diverged:
            subtract(before, module, parameters)
            module.load_state_dict(before.state_dict())
        return history
    objective = _objective(plan, inputs)
    if objective.trained is not None and plan.recipe.adapter is None:
        for name, weight in module.named_parameters():
            weight.requires_grad_(name in objective.trained)
    return _train(plan, module, objective, space, progress)


def _inputs(plan: ResolvedPlan, module: nn.Module, tokenizer: Any) -> Inputs:
    needs = plan.algorithm.needs(plan.parameters)
    adapter = plan.recipe.adapter is not None
    retain = plan.sets.get("retain")
    forget = plan.forget.examples
    return Inputs(
        module=module,
        forget=forget,
        retain=retain.examples if retain else (),
        alternatives=refusals_for(forget, tokenizer) if "alternatives" in needs else (),
        reference=frozen_copy(module) if "reference" in needs and not adapter else None,
        adapter=adapter,
        batch=plan.recipe.batch,
        seed=plan.recipe.seed,
        pad=plan.pad,
    )


def _objective(plan: ResolvedPlan, inputs: Inputs) -> Combined:
    inputs.require(plan.algorithm.needs(plan.parameters), plan.algorithm.id)
    assert plan.algorithm.make is not None
    return plan.algorithm.make(plan.parameters, inputs)


def _train(
    plan: ResolvedPlan, module: nn.Module, objective: Combined, space: Workspace, progress: Progress
) -> History:
    recipe = plan.recipe
    if recipe.adapter is not None:
        adapters.attach(module, recipe.adapter, derived_seed(recipe.seed, "adapter"))
    watch = watch_of(plan, module, space, progress)
    checkpoints = Checkpoints(
        space.checkpoints,
        plan.plan.training.checkpoint_steps or CHECKPOINT_STEPS,
        {
            "model": plan.model.fingerprint,
            "forget": plan.plan.forget,
            "retain": plan.plan.retain,
            "algorithm": plan.algorithm.id,
            "parameters": plan.chosen_parameters(),
            "stopping": [plan.plan.stopping.rule, plan.plan.stopping.every_steps],
        },
    )
    history = train(module, objective, recipe, checkpoints=checkpoints, progress=progress, probe=watch)
    if watch is not None and not history.diverged:
        choice = watch.finish()
        if choice.decision is not None and choice.decision.outcome == "diverged":
            history.stopped = "diverged"
    if recipe.adapter is not None and not history.diverged:
        adapters.merge(module)
    return history
