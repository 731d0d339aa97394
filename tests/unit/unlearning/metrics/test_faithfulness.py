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
    depth_score,
    extraction_scores,
    knowledge_memory,
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
    trained,
)

MODELS = 10
NONE = Bootstrap(resamples=0)


@dataclass
class World:
    tokenizer: Any
    forget: Facts
    retain: Facts
    target: Any
    reference: Patched
    knowing: list[Any]
    ignorant: list[Any]

    def measured(self, module: Any) -> dict[str, float]:
        """All metrics of one model."""
        items = [*self.forget.prompts, *self.forget.pairs]
        return {
            "verbmem": verbatim_memory(
                module, self.tokenizer, self.forget.prompts, max_new_tokens=TRUTH_WORDS, bootstrap=NONE
            ).value,
            "knowmem": knowledge_memory(
                module, self.tokenizer, self.forget.pairs, template=TEMPLATE, max_new_tokens=6, bootstrap=NONE
            ).value,
            "extraction_strength": extraction_scores(
                module, self.tokenizer, items, template=TEMPLATE, bootstrap=NONE
            )[0].value,
            "depth": depth_score(
                module,
                self.target,
                self.tokenizer,
                items,
                reference=self.reference,
                template=TEMPLATE,
                bootstrap=NONE,
            ).score.value,
        }


@pytest.fixture(scope="module")
def world() -> World:
    tokenizer = make_tokenizer()
    generic, forget, retain, other = (
        make_facts(tokenizer, count, seed) for seed, count in enumerate((64, 12, 12, 12))
    )
    base = trained(
        new_model(tokenizer), examples_of(tokenizer, [generic]), steps=200, seed=0, learning_rate=3e-3
    )
    with_it, without = examples_of(tokenizer, [forget, retain]), examples_of(tokenizer, [other, retain])

    def tuned(examples: list[Any], seed: int) -> Any:
        return trained(base, examples, steps=80, seed=seed, learning_rate=2e-3)

    target = tuned(with_it, 100)
    items = continuations([*forget.prompts, *forget.pairs], tokenizer, TEMPLATE)
    return World(
        tokenizer,
        forget,
        retain,
        target,
        patched_recovery(tuned(without, 100), target, items),
        [tuned(with_it, seed) for seed in range(MODELS)],
        [tuned(without, seed) for seed in range(MODELS)],
    )


@pytest.fixture(scope="module")
def pools(world: World) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    return [world.measured(module) for module in world.knowing], [
        world.measured(module) for module in world.ignorant
    ]


@pytest.mark.parametrize("metric", ["verbmem", "knowmem", "extraction_strength", "depth"])
def test_a_metric_tells_models_that_know_from_models_that_never_saw_it(pools, metric):
    knowing, ignorant = ([of[metric] for of in pool] for pool in pools)
    auc = roc_auc_score([1] * MODELS + [0] * MODELS, knowing + ignorant)
    assert auc >= 0.95, (knowing, ignorant)


@pytest.mark.parametrize("kind", ["adapter", "last_block"])
def test_a_model_that_only_refuses_passes_for_ignorant_by_its_outputs_and_is_caught_by_depth(
    world, pools, kind
):
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
    for metric in ("verbmem", "knowmem", "extraction_strength"):
        assert got[metric] <= max(of[metric] for of in ignorant), metric
    assert got["depth"] >= 0.5
    assert got["depth"] >= 2 * max(of["depth"] for of in ignorant)
