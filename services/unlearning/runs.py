"""One removal carried out on weights: an algorithm by its id, from the model before to the model after."""

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.progress import Progress
from palimpsest.training.adapters import merge
from palimpsest.training.batches import Example
from palimpsest.training.checkpoints import Checkpoints
from palimpsest.training.history import History
from palimpsest.training.loop import train
from palimpsest.training.recipe import Recipe
from services.unlearning.algorithms import Inputs, algorithm
from services.unlearning.algorithms.algorithm import Algorithm
from services.unlearning.algorithms.cir import CirParameters, collapse
from services.unlearning.algorithms.parameters import Parameters
from services.unlearning.algorithms.reference import frozen_copy
from services.unlearning.algorithms.repselect import RepSelectParameters, selective_directions, walk
from services.unlearning.algorithms.task_vector import TaskVectorParameters, subtract
from services.unlearning.algorithms.undo import UndoParameters, add_noise


@dataclass(frozen=True)
class Data:
    """What a run is given beside the model.

    Attributes
    ----------
    forget, retain, alternatives
        As in :class:`services.unlearning.algorithms.Inputs`.
    pad
        Token id that fills rows up.
    """

    forget: Sequence[Example] = ()
    retain: Sequence[Example] = ()
    alternatives: Sequence[Sequence[Example]] = ()
    pad: int = 0


def unlearn(
    module: nn.Module,
    name: str,
    data: Data,
    recipe: Recipe,
    *,
    progress: Progress,
    parameters: Mapping[str, object] | None = None,
    reference: nn.Module | None = None,
    checkpoints: Checkpoints | None = None,
    probe: Callable[[int], bool] | None = None,
) -> History | None:
    """Carry out a removal on a module's weights, in place.

    Parameters
    ----------
    module
        transformers' own, float32 and trainable, as it is before the request, also when a run goes on. For "retrain" it
        is the model before any of the data; for "undo" the one that another algorithm has unlearned, which is the
        teacher.
    name
        The algorithm's id.
    data
        What to forget and what to keep.
    recipe
        How to train. A task vector's reinforced model is trained by it; RepSelect and CIR use its batch and seed. With
        an adapter, the adapter stays in the module, except after a task vector.
    progress
        Told of every step; may raise to stop.
    parameters
        The algorithm's hyper-parameters; the defaults for what is not given.
    reference
        The model to compare with, frozen; None: the module as it is now, of which a copy is made if the algorithm needs
        whole distributions and trains no adapter.
    checkpoints, probe
        As in :func:`palimpsest.training.train`. The probe is called after every round of CIR, and not while a
        reinforced model is trained.

    Returns
    -------
    History or None
        Of the training; None where nothing was trained and no probe ended the run.

    Raises
    ------
    InvalidArgument
        ALGORITHM_UNKNOWN, ALGORITHM_PARAMETER_INVALID, ALGORITHM_INPUT_MISSING; ALGORITHM_NOT_TRAINED for "whp", which
        changes no weights, and "shard_adapters", which has its own call. TRAINING_RECIPE_INVALID: a micro-batch is set,
        and these losses need their batch whole.
    """
    chosen = algorithm(name)
    given = chosen.parse(parameters)
    inputs = _inputs(chosen, given, module, data, recipe, reference)
    if isinstance(given, TaskVectorParameters):
        return _task_vector(chosen, given, inputs, recipe, progress, checkpoints)
    if isinstance(given, RepSelectParameters | CirParameters):
        return _edited(given, inputs, progress, probe)
    if name in ("whp", "shard_adapters") or chosen.make is None:
        message = (
            f"{name!r} does not change a model's weights by one run. Serve WHP from the model and a reinforced one, "
            "and keep shards with ShardedAdapters."
        )
        raise InvalidArgument.field(Reason.ALGORITHM_NOT_TRAINED, "algorithm", message)
    objective = chosen.make(given, inputs)
    if isinstance(given, UndoParameters):
        add_noise(module, given, recipe.seed)
    with _only(module, None if recipe.adapter else objective.trained):
        return train(module, objective, recipe, checkpoints=checkpoints, progress=progress, probe=probe)


def _inputs(
    chosen: Algorithm,
    given: Parameters,
    module: nn.Module,
    data: Data,
    recipe: Recipe,
    reference: nn.Module | None,
) -> Inputs:
    if recipe.micro_batch and recipe.micro_batch < recipe.batch:
        message = (
            "The losses of a removal are means over a whole batch. Leave micro_batch at 0 and lower batch."
        )
        raise InvalidArgument.field(Reason.TRAINING_RECIPE_INVALID, "micro_batch", message)
    adapter = recipe.adapter is not None
    inputs = Inputs(
        module,
        data.forget,
        data.retain,
        data.alternatives,
        reference,
        adapter,
        recipe.batch,
        recipe.seed,
        data.pad,
    )
    needs = chosen.needs(given)
    inputs.require(needs - {"reference", "teacher"}, chosen.id)
    if reference is None and ("teacher" in needs or ("reference" in needs and not adapter)):
        inputs = replace(inputs, reference=frozen_copy(module))
    return inputs


def _edited(
    given: RepSelectParameters | CirParameters,
    inputs: Inputs,
    progress: Progress,
    probe: Callable[[int], bool] | None,
) -> History | None:
    """Change the weights by a rule of the algorithm's own, without an optimiser; there is no loss to tell of."""
    if isinstance(given, CirParameters):
        return History(stopped="probe") if collapse(given, inputs, progress, probe) else None
    walk(inputs.module, selective_directions(given, inputs), given.strength)
    return None


def _task_vector(
    chosen: Algorithm,
    given: TaskVectorParameters,
    inputs: Inputs,
    recipe: Recipe,
    progress: Progress,
    checkpoints: Checkpoints | None,
) -> History:
    """Train a copy on the forget set and walk the other way. The copy knows more than the model did; it is dropped."""
    reinforced = copy.deepcopy(inputs.module)
    assert chosen.make is not None
    objective = chosen.make(given, replace(inputs, module=reinforced))
    history = train(reinforced, objective, recipe, checkpoints=checkpoints, progress=progress)
    if recipe.adapter is not None:
        merge(reinforced)
    subtract(inputs.module, reinforced, given)
    return history


@contextlib.contextmanager
def _only(module: nn.Module, names: Sequence[str] | None) -> Iterator[None]:
    """Train only some parameters for a while; None: leave all as they are."""
    if names is None:
        yield
        return
    required = {name: weight.requires_grad for name, weight in module.named_parameters()}
    try:
        for name, weight in module.named_parameters():
            weight.requires_grad_(name in names)
        yield
    finally:
        for name, weight in module.named_parameters():
            weight.requires_grad_(required[name])
