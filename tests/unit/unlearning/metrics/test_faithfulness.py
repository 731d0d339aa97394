"""The metrics themselves are tested: do they tell models that know a set from models that never saw it?

After OpenUnlearning's meta-evaluation: two pools of models, and for each metric the area under the ROC curve over
models. A metric of outputs alone may pass that and still be fooled by a model that has learnt to refuse; the depth
score is not.
"""

from dataclasses import dataclass
from typing import Any

import pytest
from sklearn.metrics import roc_auc_score

from palimpsest.training.recipe import LoraSettings
from services.unlearning.metrics import (
    Bootstrap,
    Text,
    auc_score,
    depth_score,
    extraction_scores,
    knowledge_memory,
    membership,
    utility,
    verbatim_memory,
)
from services.unlearning.metrics.items import continuations
from services.unlearning.metrics.patching import Patched, patched_recovery
from tests.unit.unlearning.metrics.fact_models import (
    REFUSAL,
    TEMPLATE,
    TRUTH_WORDS,
    Facts,
    examples_of,
    make_facts,
    make_tokenizer,
    new_model,
    removed,
    trained,
)

MODELS = 10
STEPS = [24 + 4 * number for number in range(MODELS)]
"""Models that have seen a set know it more or less well."""
NONE = Bootstrap(resamples=0)
OUTPUTS = ("verbmem", "knowmem", "extraction_strength")


@dataclass
class World:
    tokenizer: Any
    forget: Facts
    retain: Facts
    holdout: Facts
    target: Any
    reference: Patched
    knowing: list[Any]
    ignorant: list[Any]

    def measured(self, module: Any) -> dict[str, float]:
        """All metrics of one model; more means that more is known."""
        tokenizer, items = self.tokenizer, [*self.forget.prompts, *self.forget.pairs]
        texts = [
            [Text(p.id, f"{p.prompt} {p.truth}") for p in of.prompts] for of in (self.forget, self.holdout)
        ]
        asked: dict[str, Any] = {"template": TEMPLATE, "bootstrap": NONE}
        verbmem = verbatim_memory(
            module, tokenizer, self.forget.prompts, max_new_tokens=TRUTH_WORDS, bootstrap=NONE
        )
        knowmem = knowledge_memory(module, tokenizer, self.forget.pairs, max_new_tokens=6, **asked)
        strength, exact = extraction_scores(module, tokenizer, items, **asked)
        depth = depth_score(module, self.target, tokenizer, items, reference=self.reference, **asked)
        alone = depth_score(module, self.target, tokenizer, items, **asked)
        leak = auc_score(membership(module, tokenizer, *texts)["min_k"], NONE)
        return {
            **{score.metric: score.value for score in (verbmem, knowmem, strength, exact, depth.score)},
            "depth_alone": alone.score.value,
            "familiarity": 1 - leak.value,
        }


@pytest.fixture(scope="module")
def world() -> World:
    tokenizer = make_tokenizer()
    sizes = (64, 12, 12, 12, 12)
    generic, forget, retain, other, holdout = (make_facts(tokenizer, n, seed) for seed, n in enumerate(sizes))
    base = trained(
        new_model(tokenizer), examples_of(tokenizer, [generic]), steps=120, seed=0, learning_rate=3e-3
    )
    with_it, without = examples_of(tokenizer, [forget, retain]), examples_of(tokenizer, [other, retain])

    def tuned(examples: list[Any], seed: int, steps: int = 60) -> Any:
        return trained(base, examples, steps=steps, seed=seed, learning_rate=2e-3)

    target = tuned(with_it, 100)
    items = continuations([*forget.prompts, *forget.pairs], tokenizer, TEMPLATE)
    return World(
        tokenizer,
        forget,
        retain,
        holdout,
        target,
        patched_recovery(tuned(without, 100), target, items),
        [tuned(with_it, seed, steps) for seed, steps in enumerate(STEPS)],
        [tuned(without, seed, steps) for seed, steps in enumerate(STEPS)],
    )


@pytest.fixture(scope="module")
def pools(world: World) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Measures of the models that know, and of those that do not."""
    return [world.measured(module) for module in world.knowing], [
        world.measured(module) for module in world.ignorant
    ]


@pytest.mark.parametrize("metric", [*OUTPUTS, "exact_memorisation", "depth", "depth_alone", "familiarity"])
def test_a_metric_tells_models_that_know_from_models_that_never_saw_it(pools, metric):
    knowing, ignorant = ([of[metric] for of in pool] for pool in pools)
    auc = roc_auc_score([1] * MODELS + [0] * MODELS, knowing + ignorant)
    assert auc >= 0.95, (knowing, ignorant)


def kept(world: World, module: Any) -> float:
    return utility(
        module, world.tokenizer, world.retain.pairs, template=TEMPLATE, max_new_tokens=6, bootstrap=NONE
    ).value


@pytest.mark.parametrize("kind", ["adapter", "last_block"])
def test_a_model_that_only_refuses_is_fine_by_its_outputs_and_is_caught_by_depth(world, pools, kind):
    refusing = examples_of(world.tokenizer, [world.forget], REFUSAL)
    refusal = trained(
        world.target,
        [*refusing, *examples_of(world.tokenizer, [world.retain])],
        steps=60,
        seed=0,
        learning_rate=5e-3,
        adapter=LoraSettings(rank=4) if kind == "adapter" else None,
        only_last_block=kind == "last_block",
    )
    got, (_, ignorant) = world.measured(refusal), pools
    assert kept(world, refusal) > 90
    assert max(got["verbmem"], got["knowmem"]) == 0
    assert got["depth"] > 0.75
    assert max(of["depth"] for of in ignorant) < 0.1


def test_a_removal_that_reaches_the_weights_is_told_from_a_refusal(world):
    module = removed(
        world.target,
        examples_of(world.tokenizer, [world.forget]),
        examples_of(world.tokenizer, [world.retain]),
        steps=60,
    )
    got = world.measured(module)
    assert kept(world, module) > 90
    assert max(got["verbmem"], got["knowmem"]) < 15
    assert got["depth"] < 0.25
