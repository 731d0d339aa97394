"""The training loop: a function to minimise, AdamW, and a state from which a run goes on as if it had never stopped."""

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from palimpsest.errors import InvalidArgument, Reason, ResourceExhausted
from palimpsest.progress import Drain, Progress
from palimpsest.training.adapters import attach, is_attached
from palimpsest.training.checkpoints import Checkpoints
from palimpsest.training.history import History
from palimpsest.training.objectives import Objective, PartedObjective, SharedObjective, Stateful
from palimpsest.training.order import derived_seed
from palimpsest.training.ranks import Ranks
from palimpsest.training.recipe import LoraSettings, Recipe
from palimpsest.training.updates import adamw

__all__ = ["History", "LoraSettings", "Objective", "PartedObjective", "Recipe", "Stateful", "train"]


def train(
    module: nn.Module,
    objective: Objective | PartedObjective,
    recipe: Recipe,
    *,
    checkpoints: Checkpoints | None = None,
    progress: Progress,
    probe: Callable[[int], bool] | None = None,
    validation: Callable[[], float] | None = None,
    ranks: Ranks | None = None,
) -> History:
    """Train a module in place, or go on with the run whose state ``checkpoints`` holds.

    On one thread, and on any fixed number of them, a run that was stopped and goes on ends with the same bits as one
    that was not.

    Parameters
    ----------
    module
        transformers' own, in evaluation mode and float32 (``palimpsest.lm.load(..., trainable=True).module``), with the
        weights the run begins from, also when it goes on. With ``recipe.adapter`` an adapter is put into it, and stays
        there; see :mod:`palimpsest.training.adapters`.
    objective
        What to minimise. ``recipe.batch`` and ``recipe.micro_batch`` are for whoever makes it; the loop only records
        them.
    recipe
        How.
    checkpoints
        Where the state is kept. It is written as they say, and when the worker shuts down.
    progress
        Told of every step and its loss; may raise to stop between two steps.
    probe
        Called after every step, with the number of the step and the module as it is; True ends the run. One that
        remembers anything is an object that is ``Stateful``. A call that was interrupted is made again.
    validation
        Returns a loss on other data; called as ``recipe.validate_every`` says.
    ranks
        The processes that share the run, as many as ``recipe.ranks``; None: this one alone. Each calls this function
        with the same module, objective (a ``SharedObjective``) and recipe. ``checkpoints``, ``probe`` and
        ``validation`` are rank 0's alone, and ignored elsewhere.

    Returns
    -------
    History
        Also of a run that diverged; see ``History.stopped``. Losses are those of the whole batch on every rank.

    Raises
    ------
    FailedPrecondition
        CHECKPOINT_MISMATCH: the state is of another run.
    DataLoss
        CHECKPOINT_DAMAGED.
    ResourceExhausted
        DISK_FULL: a state could not be written; the one before it is intact.
    InvalidArgument
        TRAINING_RECIPE_INVALID: there are more or fewer ranks than the recipe says, or the objective cannot be shared.
    RankLost
        Another rank failed, or was killed.
    """
    _require_ranks(recipe, objective, ranks)
    if ranks is not None and not ranks.leads:
        checkpoints = probe = validation = None
    with _settled(recipe), ranks.together() if ranks is not None else contextlib.nullcontext():
        return _Run(module, objective, recipe, checkpoints, progress, probe, validation, ranks).to_the_end()


class _Run:
    def __init__(
        self,
        module: nn.Module,
        objective: Objective | PartedObjective,
        recipe: Recipe,
        checkpoints: Checkpoints | None,
        progress: Progress,
        probe: Callable[[int], bool] | None,
        validation: Callable[[], float] | None,
        ranks: Ranks | None,
    ) -> None:
        self.module, self.objective, self.recipe = module, objective, recipe
        self.checkpoints, self.progress = checkpoints, progress
        self.probe, self.validation, self.ranks = probe, validation, ranks
        if recipe.adapter is not None and not is_attached(module):
            attach(module, recipe.adapter, derived_seed(recipe.seed, "adapter"))
        self.weights = {name: each for name, each in module.named_parameters() if each.requires_grad}
        self.optimizer = adamw(self.weights, recipe)
        self.stateful = {"objective": objective, "probe": probe}
        whole = objective.examples_at(0) if isinstance(objective, SharedObjective) else recipe.batch
        self.history = History(effective_batch=whole)  # a set may have fewer examples than the recipe's batch
        self.looked = True  # whether the last step's probe and validation are done
        self._remember()

    def to_the_end(self) -> History:
        recipe, history = self.recipe, self._resumed()
        try:
            while True:
                if not self.looked:
                    self._look()
                self.progress.step(history.steps, recipe.steps, _stage(history))
                if history.stopped or history.steps >= recipe.steps:
                    return history
                self._step()
                if self.checkpoints is not None and self.checkpoints.is_due(history.steps):
                    self._save()
        except Drain:
            with contextlib.suppress(ResourceExhausted):  # the job is queued again all the same
                self._save()
            raise

    def _step(self) -> None:
        step, recipe, history = self.history.steps, self.recipe, self.history
        torch.manual_seed(derived_seed(recipe.seed, "step", step))
        self.optimizer.zero_grad(set_to_none=True)
        loss, examples = 0.0, 0
        for part, count in self._parts(step):
            part.backward()
            loss, examples = loss + part.item(), examples + count
            self.progress.check()
        if self.ranks is not None and isinstance(self.objective, SharedObjective):
            summed = self.ranks.summed(self.weights, loss, examples, self.objective.examples_at(step))
            if summed is None:  # rank 0's probe has ended the run
                history.stopped = "probe"
                return
            loss = summed
        norm = nn.utils.get_total_norm([w.grad for w in self.weights.values() if w.grad is not None]).item()
        rate = recipe.rate_at(step)
        history.losses.append(loss)
        history.rates.append(rate)
        history.norms.append(norm)
        if not _finite(loss, norm):
            history.stopped = "diverged"
            return
        if recipe.clip and norm > recipe.clip:
            for weight in self.weights.values():
                if weight.grad is not None:
                    weight.grad.mul_(recipe.clip / norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.looked = False
        self._remember()

    def _look(self) -> None:
        """Validate and probe after a step; a look that was interrupted is taken again."""
        done, recipe, history = self.history.steps, self.recipe, self.history
        if recipe.validate_every and done % recipe.validate_every == 0:
            self._validate()
        if not history.stopped and self.probe is not None and self.probe(done - 1):
            history.stopped = "probe"
        if history.stopped or done == recipe.steps:
            self._validate()
        self.looked = True
        self._remember()

    def _validate(self) -> None:
        done, curve = self.history.steps, self.history.validation
        if self.validation is not None and (not curve or curve[-1][0] != done):
            curve.append((done, self.validation()))

    def _remember(self) -> None:
        """Keep what objective and probe remember now: a step or a look that is interrupted did not happen."""
        self.state = {
            name: copy.deepcopy(each.state())
            for name, each in self.stateful.items()
            if isinstance(each, Stateful)
        }

    def _save(self) -> None:
        if self.checkpoints is not None:
            self.checkpoints.save(
                self.weights, self.optimizer, self.history, self.recipe, looked=self.looked, state=self.state
            )

    def _resumed(self) -> History:
        saved = self.checkpoints.load(self.recipe) if self.checkpoints else None
        if saved is not None:
            saved.put_into(self.weights, self.optimizer)
            self.history, self.looked = saved.history, saved.looked
            self._restore(saved.state)
        if self.ranks is not None:
            facts = {"history": self.history.facts(), "state": self.state}
            told = self.ranks.begin(self.weights, self.optimizer, self.recipe, facts)
            if not self.ranks.leads:
                self.history = History.of(told["history"])
                self._restore(told["state"])
        return self.history

    def _restore(self, state: Mapping[str, Any]) -> None:
        for name, each in self.stateful.items():
            if isinstance(each, Stateful):
                each.restore(state[name])
        self._remember()

    def _parts(self, step: int) -> Iterator[tuple[Tensor, int]]:
        """Parts, of this process, of the step's loss, and the examples of each where the step is shared."""
        if self.ranks is not None and isinstance(self.objective, SharedObjective):
            yield from self.objective.shares(self.module, step, self.ranks.rank, self.ranks.size)
        elif isinstance(self.objective, PartedObjective):
            yield from ((part, 0) for part in self.objective.parts(self.module, step))
        else:
            yield self.objective.loss(self.module, step), 0


def _require_ranks(recipe: Recipe, objective: Objective | PartedObjective, ranks: Ranks | None) -> None:
    size = 1 if ranks is None else ranks.size
    if recipe.ranks != size:
        message = f"The recipe is for {recipe.ranks} ranks, and {size} run it. Start as many as it says."
        raise InvalidArgument.field(Reason.TRAINING_RECIPE_INVALID, "ranks", message)
    if ranks is not None and not isinstance(objective, SharedObjective):
        message = "This loss is not a sum over examples, and cannot be shared. Train on one device."
        raise InvalidArgument.field(Reason.TRAINING_RECIPE_INVALID, "ranks", message)


def _stage(history: History) -> str:
    """Tell the loss. Watchers are told of a new stage at once, so it is rounded to what they can read."""
    return f"training, loss {history.losses[-1]:.4g}" if history.losses else "training"


def _finite(*numbers: float) -> bool:
    return all(abs(number) < float("inf") for number in numbers)  # False of NaN


@contextlib.contextmanager
def _settled(recipe: Recipe) -> Iterator[None]:
    """Set the threads, and give torch's random numbers back as they were."""
    threads = torch.get_num_threads()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        if recipe.threads:
            torch.set_num_threads(recipe.threads)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
