"""States of a run: exact to go on from at any step, whole or not there, and refused where they are damaged."""

import errno
import json
import shutil

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palimpsest.errors import DataLoss, FailedPrecondition, ResourceExhausted
from palimpsest.progress import Drain, NullProgress
from palimpsest.training import Checkpoints, LoraSettings, Recipe, checkpoints, train
from palimpsest.training.checkpoints import MANIFEST, MOMENTS, WEIGHTS, fetch_state
from palimpsest.training.cross_entropy import CrossEntropy

STEPS = 8
RECIPE = Recipe(
    steps=STEPS, learning_rate=1e-2, batch=4, micro_batch=3, seed=2, schedule="linear", validate_every=3
)
ADAPTED = Recipe.of({**RECIPE.facts(), "adapter": {"rank": 2, "alpha": 4.0, "targets": []}})


class Draining(NullProgress):
    """Shuts down at the n-th time it is asked."""

    def __init__(self, after):
        super().__init__()
        self.left = after

    def step(self, done, total, stage=""):
        self.check()

    def check(self):
        self.left -= 1
        if self.left < 0:
            raise Drain


class Remembering:
    """A probe that ends the run at its fifth look, if the weights moved between all of them."""

    def __init__(self, module, progress):
        self.module, self.progress = module, progress
        self.sizes = []

    def __call__(self, step):
        self.progress.check()
        self.sizes.append(sum(p.detach().abs().sum().item() for p in self.module.parameters()))
        return len(set(self.sizes)) == 5

    def state(self):
        return {"sizes": self.sizes}

    def restore(self, state):
        self.sizes = list(state["sizes"])


def weights(module):
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def run(module, examples, folder, recipe=RECIPE, progress=None, every=0, probed=False, **options):
    progress = progress or NullProgress()
    objective = CrossEntropy(examples, recipe, 0)
    probe = Remembering(module, progress) if probed else None
    kept = Checkpoints(folder, every, **options)
    return train(
        module,
        objective,
        recipe,
        checkpoints=kept,
        progress=progress,
        probe=probe,
        validation=lambda: sum(p.sum().item() for p in module.parameters()),
    )


@pytest.fixture
def undisturbed(make_model, examples, tmp_path):
    """Weights and curves of whole runs, each made once."""
    made = {}

    def of(recipe, probed):
        if (recipe, probed) not in made:
            module = make_model()
            history = run(module, examples, tmp_path / f"whole-{len(made)}", recipe, probed=probed)
            made[recipe, probed] = weights(module), history
        return made[recipe, probed]

    return of


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    stops=st.lists(st.integers(0, 50), min_size=1, max_size=3),
    every=st.sampled_from([0, 1, 3]),
    recipe=st.sampled_from([RECIPE, ADAPTED]),
    probed=st.booleans(),
)
def test_a_run_that_was_stopped_anywhere_ends_with_the_same_bits(
    make_model, examples, tmp_path_factory, undisturbed, stops, every, recipe, probed
):
    folder = tmp_path_factory.mktemp("run")
    for stop in stops:
        try:
            run(make_model(), examples, folder, recipe, Draining(stop), every, probed)
        except Drain:
            continue
        break
    module = make_model()
    history = run(module, examples, folder, recipe, every=every, probed=probed)
    expected, curves = undisturbed(recipe, probed)
    assert same(weights(module), expected)
    assert history == curves


def test_a_stop_within_a_step_costs_that_step_alone(make_model, examples, tmp_path):
    """Every call of check and step, one after another: 8 steps take 29 of them."""
    reached = []
    for stop in range(40):
        folder = tmp_path / str(stop)
        try:
            run(make_model(), examples, folder, progress=Draining(stop))
        except Drain:
            reached.append(
                json.loads((Checkpoints(folder).newest() / MANIFEST).read_text())["history"]["losses"]
            )
        else:
            break
    lengths = [len(each) for each in reached]
    assert lengths == sorted(lengths)
    assert set(lengths) == set(range(STEPS + 1))


class Counting(CrossEntropy):
    """An objective that remembers: its weight grows with every step, as a dual variable does."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.weight = 1.0

    def parts(self, module, step):
        self.weight *= 1.1
        for part in super().parts(module, step):
            yield part * self.weight

    def state(self):
        return {"weight": self.weight}

    def restore(self, state):
        self.weight = state["weight"]


@pytest.mark.parametrize("stop", [0, 1, 4, 5, 6, 11])
def test_what_an_objective_remembers_is_that_of_whole_steps(make_model, examples, tmp_path, stop):
    """Stopped between two passes of one step, it has changed already, and the step is done again."""
    runs = []
    for progress in (None, Draining(stop)):
        folder, module = tmp_path / str(len(runs)), make_model()
        if progress is not None:
            with pytest.raises(Drain):
                train(
                    make_model(), Counting(examples, RECIPE, 0), RECIPE,
                    checkpoints=Checkpoints(folder), progress=progress,
                )  # fmt: skip
        objective = Counting(examples, RECIPE, 0)
        train(module, objective, RECIPE, checkpoints=Checkpoints(folder), progress=NullProgress())
        runs.append((weights(module), objective.weight))
    assert runs[0][1] == runs[1][1]
    assert same(runs[0][0], runs[1][0])


def test_a_killed_run_goes_on_from_its_last_state(make_model, examples, tmp_path, undisturbed):
    class Killed(BaseException):
        pass

    class Dying(NullProgress):
        def step(self, done, total, stage=""):
            if done == 5:
                raise Killed

    with pytest.raises(Killed):
        run(make_model(), examples, tmp_path / "run", progress=Dying(), every=2)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["state-000000001"]
    module = make_model()
    history = run(module, examples, tmp_path / "run", every=2)
    expected, curves = undisturbed(RECIPE, False)
    assert same(weights(module), expected)
    assert history == curves


def test_a_finished_run_is_not_run_again(make_model, examples, tmp_path, undisturbed):
    run(make_model(), examples, tmp_path / "run", every=STEPS)
    module = make_model()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CrossEntropy, "parts", None)
        run(module, examples, tmp_path / "run", every=STEPS)
    assert same(weights(module), undisturbed(RECIPE, False)[0])


@pytest.fixture
def kept(make_model, examples, tmp_path):
    """A folder with a state after four steps."""

    class Stopping(NullProgress):
        def step(self, done, total, stage=""):
            if done == 4:
                raise Drain

    folder = tmp_path / "kept"
    with pytest.raises(Drain):
        run(make_model(), examples, folder, progress=Stopping(), identity={"model": "sha256:1"})
    return folder


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: flip(state / WEIGHTS),
        lambda state: flip(state / MOMENTS),
        lambda state: (state / MOMENTS).unlink(),
        lambda state: (state / MANIFEST).write_text("{"),
        lambda state: (state / MANIFEST).write_text("[]"),
        lambda state: (state / MANIFEST).unlink(),
        lambda state: (state / WEIGHTS).write_bytes((state / WEIGHTS).read_bytes()[:-1]),
    ],
)
def test_a_damaged_state_is_refused(make_model, examples, kept, damage):
    damage(Checkpoints(kept).newest())
    module = make_model()
    before = weights(module)
    with pytest.raises(DataLoss) as caught:
        run(module, examples, kept, identity={"model": "sha256:1"})
    assert caught.value.reason == "CHECKPOINT_DAMAGED"
    assert same(weights(module), before)


@pytest.mark.parametrize(
    ("recipe", "identity", "differs"),
    [
        (RECIPE, {"model": "sha256:2"}, "identity.model"),
        (Recipe.of({**RECIPE.facts(), "learning_rate": 0.5}), {"model": "sha256:1"}, "recipe.learning_rate"),
        (ADAPTED, {"model": "sha256:1"}, "recipe.adapter"),
    ],
)
def test_a_state_of_another_run_is_refused(make_model, examples, kept, recipe, identity, differs):
    with pytest.raises(FailedPrecondition) as caught:
        run(make_model(), examples, kept, recipe, identity=identity)
    assert (caught.value.reason, caught.value.metadata["differs"]) == ("CHECKPOINT_MISMATCH", differs)


@pytest.mark.parametrize("failing", ["save_file", "sync_tree"])
def test_a_full_disk_leaves_the_last_state_intact(
    make_model, examples, tmp_path, monkeypatch, failing, undisturbed
):
    original, calls = getattr(checkpoints, failing), []

    def full(*arguments):
        original(*arguments)
        calls.append(1)
        if len(calls) > (4 if failing == "save_file" else 2):
            raise OSError(errno.ENOSPC, "No space left on device")

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, failing, full)
        with pytest.raises(ResourceExhausted) as caught:
            run(make_model(), examples, folder, every=2)
    assert caught.value.reason == "DISK_FULL"
    assert [path.name for path in folder.iterdir()] == ["state-000000001"], "no part of the new one is left"
    module = make_model()
    run(module, examples, folder, every=2)
    assert same(weights(module), undisturbed(RECIPE, False)[0])


def test_a_shutdown_on_a_full_disk_is_still_a_shutdown(make_model, examples, tmp_path, monkeypatch):
    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(Drain):
        run(make_model(), examples, tmp_path / "run", progress=Draining(9))


def test_states_are_published_and_fetched(make_model, examples, tmp_path, undisturbed):
    published = []

    def publish(folder, step):
        shutil.copytree(folder, tmp_path / f"published-{step}")
        published.append(step)

    with pytest.raises(Drain):
        run(make_model(), examples, tmp_path / "run", every=2, on_saved=publish, progress=Draining(20))
    last = tmp_path / f"published-{published[-1]}"
    manifest = (last / MANIFEST).read_bytes()
    by_digest = {digest: last / name for name, digest in json.loads(manifest)["files"].items()}
    fetch_state(tmp_path / "elsewhere", manifest, lambda digest: [by_digest[digest].read_bytes()])
    module = make_model()
    run(module, examples, tmp_path / "elsewhere")
    assert same(weights(module), undisturbed(RECIPE, False)[0])


def test_by_time_states_are_written_as_seldom_as_they_take_long(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    kept = Checkpoints(tmp_path, seconds=10.0)
    monkeypatch.setattr(checkpoints, "sync_tree", lambda _folder: now.__setitem__(0, now[0] + 3.0))
    assert not kept.is_due(1)
    now[0] = 10.0
    assert kept.is_due(2)
    from palimpsest.training import History

    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
    for after in (120.0, 180.0):  # the second state makes 6 seconds of writing, the third 9
        kept.save({}, optimizer, History(), RECIPE)
        now[0] = after - 1.0
        assert not kept.is_due(3)
        now[0] = after
        assert kept.is_due(4)


def test_loaded_moments_belong_to_the_run_alone(make_model, examples, kept):
    """safetensors maps files: the moments have to be copied, or the next state would be written over its own source."""
    state = Checkpoints(kept, identity={"model": "sha256:1"}).load(RECIPE)
    module = make_model()
    parameters = dict(module.named_parameters())
    optimizer = torch.optim.AdamW(parameters.values())
    state.put_into(parameters, optimizer)
    for key, value in state.moments.items():
        kind, name = key.split(":", 1)
        assert torch.equal(optimizer.state[parameters[name]][kind], value)
        assert optimizer.state[parameters[name]][kind].data_ptr() != value.data_ptr()


def test_adapters_keep_only_themselves(make_model, examples, tmp_path):
    from safetensors.torch import load_file

    with pytest.raises(Drain):
        run(make_model(), examples, tmp_path / "run", ADAPTED, progress=Draining(9))
    names = load_file(Checkpoints(tmp_path / "run").newest() / WEIGHTS).keys()
    assert names
    assert all("lora_" in name for name in names)
    assert LoraSettings(2, 4.0) == ADAPTED.adapter
