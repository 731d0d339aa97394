"""One run on several ranks, which are real processes: what one device does, and what happens when a rank is lost."""

import contextlib
import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from palimpsest.errors import FailedPrecondition, InvalidArgument
from palimpsest.progress import Drain, NullProgress
from palimpsest.training import Checkpoints, Recipe, train
from palimpsest.training.ranks import RankLost, joined
from tests.unit.training.second_rank import CPU, Run, digest_of, examples, model, objective

ROOT = Path(__file__).parents[3]


class Peer:
    """A process that is the second rank of one run after another."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.unit.training.second_rank"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def begin(self, run, folder, rank=1, size=2):
        asked = {"folder": str(folder), "rank": rank, "size": size, "run": asdict(run)}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()

    def told(self):
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait(60)


@pytest.fixture(scope="module")
def peers():
    made = [Peer(), Peer()]
    yield made
    for peer in made:
        peer.close()


@pytest.fixture
def peer(peers):
    return peers[0]


def alone(run, **options):
    module = model(run.dtype)
    history = train(module, objective(run, 1), run.recipe_for(1), progress=NullProgress(), **options)
    return module, history


def lead(run, folder, peers, theirs=None, **options):
    """Be rank 0 of a run; returns the module, the history and what the other ranks tell."""
    folder.mkdir(exist_ok=True)
    size = len(peers) + 1
    for rank, peer in enumerate(peers, 1):
        peer.begin(theirs or run, folder, rank, size)
    module = model(run.dtype)
    options.setdefault("progress", NullProgress())
    with joined(folder, 0, size, CPU) as ranks:
        history = train(module, objective(run, size), run.recipe_for(size), ranks=ranks, **options)
    return module, history, [peer.told() for peer in peers]


def apart(one, other):
    """Relative distance of all weights."""
    a = torch.cat([weight.detach().double().flatten() for weight in one.parameters()])
    b = torch.cat([weight.detach().double().flatten() for weight in other.parameters()])
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    ("run", "rounding"),
    [
        (Run(), 1e-12),
        (Run(adapter=True), 1e-12),
        (Run(recipe={"micro_batch": 0, "batch": 11}), 1e-12),
        (Run(dtype="float32"), 1e-6),
    ],
    ids=["weights", "adapter", "whole set", "float32"],
)
def test_ranks_do_what_one_device_does(peers, tmp_path, run, rounding, count):
    one, expected = alone(run)
    module, history, told = lead(run, tmp_path / "ranks", peers[:count])
    assert history.losses == pytest.approx(expected.losses, rel=max(rounding, 1e-9))
    assert history.norms == pytest.approx(expected.norms, rel=max(100 * rounding, 1e-9))
    assert (history.steps, history.effective_batch) == (expected.steps, expected.effective_batch)
    assert apart(module, one) <= rounding
    for each in told:
        assert each["weights"] == digest_of(module), "ranks end with the same bits"
        assert each["history"] == json.loads(json.dumps(history.facts()))


class StopsAt(NullProgress):
    def __init__(self, step, error):
        super().__init__()
        self.at, self.error = step, error

    def step(self, done, total, stage=""):
        if done == self.at:
            raise self.error


def test_a_run_that_stopped_goes_on_with_the_same_bits(peer, tmp_path):
    run = Run(dtype="float32")
    module, history, _ = lead(run, tmp_path / "whole", [peer])
    states = tmp_path / "states"
    with pytest.raises(Drain):
        lead(run, tmp_path / "first", [peer], checkpoints=Checkpoints(states), progress=StopsAt(4, Drain()))
    assert peer.told()["error"] == "RankLost"
    resumed, other, told = lead(run, tmp_path / "second", [peer], checkpoints=Checkpoints(states))
    assert other == history
    assert digest_of(resumed) == told[0]["weights"] == digest_of(module)


def test_a_state_of_another_number_of_ranks_is_refused(peer, tmp_path):
    run, states = Run(), tmp_path / "states"
    lead(run, tmp_path / "ranks", [peer], checkpoints=Checkpoints(states, 3))
    with pytest.raises(FailedPrecondition) as caught:
        alone(run, checkpoints=Checkpoints(states))
    assert (caught.value.reason, caught.value.metadata["differs"]) == ("CHECKPOINT_MISMATCH", "recipe.ranks")
    assert "ranks" not in run.recipe_for(1).facts(), "states from before there were ranks go on"
    assert Recipe.of(run.recipe_for(2).facts()) == run.recipe_for(2)


def test_the_probe_of_rank_0_ends_the_run_everywhere(peer, tmp_path):
    run = Run()
    module, history, (told,) = lead(run, tmp_path / "ranks", [peer], probe=lambda step: step == 4)
    assert (history.stopped, history.steps) == ("probe", 5)
    assert (told["history"]["stopped"], len(told["history"]["losses"])) == ("probe", 5)
    assert told["weights"] == digest_of(module)


def test_a_run_that_diverges_ends_everywhere(peer, tmp_path):
    run = Run(dtype="float32", recipe={"learning_rate": 1e30, "schedule": "constant"})
    module, history, (told,) = lead(run, tmp_path / "ranks", [peer])
    assert history.diverged
    assert told["history"]["stopped"] == "diverged"
    assert len(told["history"]["losses"]) == history.steps
    assert told["weights"] == digest_of(module)


@pytest.mark.parametrize("fault", ["raises", "dies"])
def test_a_rank_that_is_lost_ends_the_run(tmp_path, fault):
    peer, run = Peer(), Run()
    try:
        with pytest.raises(RankLost):
            lead(run, tmp_path / "ranks", [peer], replace(run, fault=fault))
        if fault == "raises":
            assert peer.told()["error"] == "ValueError"
        else:
            assert peer.process.wait(60) == 3
    finally:
        with contextlib.suppress(BrokenPipeError):
            peer.close()


def test_every_example_of_a_batch_is_in_one_share(peer, tmp_path):
    with pytest.raises(RuntimeError, match=r"trained on \d+ examples of a step's"):
        lead(Run(), tmp_path / "ranks", [peer], Run(fault="greedy"))
    assert peer.told()["error"] == "RuntimeError"


def test_shares_are_dealt_by_length():
    run = Run(recipe={"batch": 11, "micro_batch": 0})
    shared, module = objective(run, 2), model()
    counts = []
    for rank in range(3):
        counts.append([count for _, count in shared.shares(module, 0, rank, 3)])
    assert counts == [[4], [4], [3]]
    total = sum(loss for rank in range(3) for loss, _ in shared.shares(module, 0, rank, 3))
    assert total.item() == pytest.approx(shared.loss(module, 0).item(), rel=1e-12)
    assert shared.examples_at(0) == len(examples())


def test_what_cannot_be_shared_is_refused(tmp_path):
    run = Run()
    with pytest.raises(InvalidArgument) as caught:
        Recipe(steps=1, batch=2, ranks=3)
    assert [each.field for each in caught.value.violations] == ["ranks"]
    with pytest.raises(InvalidArgument, match="for 2 ranks, and 1 run it"):
        train(model(), objective(run, 2), run.recipe_for(2), progress=NullProgress())

    class Whole:
        def loss(self, module, step):
            return sum(weight.square().sum() for weight in module.parameters())

    (tmp_path / "ranks").mkdir()
    whole, recipe = Whole(), replace(run.recipe_for(2), ranks=1)
    with joined(tmp_path / "ranks", 0, 1, CPU) as ranks, pytest.raises(InvalidArgument) as caught:
        train(model(), whole, recipe, progress=NullProgress(), ranks=ranks)
    assert caught.value.reason == "TRAINING_RECIPE_INVALID"
