"""A sweep against one pass for each cell, what it costs, and what is read of it."""

import math

import numpy as np
import pytest
import torch

from palimpsest.errors import FailedPrecondition, Reason
from services.grafting.engine import Configuration, Patch, architecture_of
from services.grafting.engine.architecture import refuse_by_config
from services.grafting.pairs import require_finite
from services.grafting.readings import Reader
from services.grafting.runs import Case, PromptRun, batches, cheapest
from tests.unit.grafting.zoo import LAYERS, SIZES, drawn_ids, everything, grafter, make, near, own, swapped

LAYER = ("attention_norm", "q", "k", "v", "o", "mlp_norm", "gate", "up", "down")


def cells(tokens: int, layers: int, components=LAYER) -> list[Configuration]:
    return [Configuration((Patch((p,), (n,), components),)) for p in range(tokens) for n in range(layers)]


def swept(engine, case: Case, configurations, rows: int = 4096):
    run, found = PromptRun(engine, case), {}
    for batch in batches(case, configurations, engine.architecture.layers, rows):
        read = run.read(batch.plans, batch.source)
        found |= dict(zip(batch.numbers, read, strict=True))
    return run, [found[n] for n in range(len(configurations))]


@pytest.mark.parametrize("name", ["llama", "qwen2 with windows", "gpt2", "neox"])
@pytest.mark.parametrize("rows", [4096, 17])
def test_every_cell_is_its_own_pass(name: str, rows: int):
    base = make(name, 0)
    engine = grafter(base, near(base, 1))
    case = Case(tuple(drawn_ids(1, 8)), (5, 9))
    configurations = [*cells(8, LAYERS), Configuration(base=1), everything(8)]
    run, found = swept(engine, case, configurations, rows)
    for configuration, reading in zip(configurations, found, strict=True):
        alone = run.reader.read(engine.forward(case.ids, case.extended(configuration), 2))
        assert reading.logprob == pytest.approx(alone.logprob, abs=1e-4)
        assert reading.rank == alone.rank
    assert found[-1].recovery == pytest.approx(1)
    assert found[-2].recovery == pytest.approx(1)


def test_a_sweep_computes_less_than_a_third_of_the_rows():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    small = {
        **SIZES,
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
    }
    model = LlamaForCausalLM(LlamaConfig(**{**small, "head_dim": 8, "num_hidden_layers": 30})).eval()
    engine = grafter(model, near(model, 1))
    for tokens in (9, 26):
        engine.row_layers = 0
        swept(engine, Case(tuple(drawn_ids(1, tokens)), (3,)), cells(tokens, 30))
        assert engine.row_layers <= 0.30 * (tokens * 30) ** 2


def test_the_complement_of_a_cell_shares_with_the_donor():
    case = Case(tuple(drawn_ids(2)), (3,))
    rest = Configuration((*everything(9).patches, Patch((7,), (1,), LAYER, 0)))
    source, planned = cheapest(case, rest, LAYERS)
    assert source == 1
    assert planned.row_layers == 2 * 2


def test_target_tokens_take_their_weights_as_the_last_token_does():
    pair = [make("llama", seed) for seed in (0, 1)]
    engine, ids, target = grafter(*pair), tuple(drawn_ids(4)), (7, 11, 13)
    last = Configuration((Patch((8,), range(LAYERS), LAYER),))
    for grafted, there in ((True, (8, 9, 10)), (False, (8,))):
        case = Case(ids, target, grafted)
        _, (reading,) = swept(engine, case, [last])
        expected = swapped(pair, case.ids, Configuration((Patch(there, range(LAYERS), LAYER),)))
        logprobs = torch.log_softmax(expected[-3:].double(), -1)
        each = [float(logprobs[n, token]) for n, token in enumerate(target)]
        assert reading.token_logprobs == pytest.approx(each, abs=1e-3)
        assert reading.logprob == pytest.approx(sum(each), abs=1e-3)
        assert reading.probability == pytest.approx(math.exp(sum(each)), rel=1e-2)


def test_readings_are_those_of_plain_arithmetic():
    draw = np.random.default_rng(0)
    base, donor, here = (torch.tensor(draw.normal(size=(1, 12)), dtype=torch.float32) for _ in range(3))
    reader = Reader((4,), base, donor)
    reading = reader.read(here)
    p, q, r = (
        np.exp(x[0].double().numpy()) / np.exp(x[0].double().numpy()).sum() for x in (base, donor, here)
    )
    assert reading.probability == pytest.approx(r[4])
    assert reading.rank == 1 + sum(r > r[4])
    assert reading.kl_base == pytest.approx(sum(p * np.log(p / r)))
    assert reading.kl_donor == pytest.approx(sum(q * np.log(q / r)))
    assert reading.recovery == pytest.approx((np.log(r[4]) - np.log(p[4])) / (np.log(q[4]) - np.log(p[4])))
    assert (reading.top, reading.top_probability) == (int(r.argmax()), pytest.approx(r.max()))
    assert (reader.base.kl_base, reader.donor.kl_donor) == (0.0, 0.0)
    assert (reader.base.recovery, reader.donor.recovery) == (0.0, 1.0)
    assert Reader((4,), base, base).read(here).recovery is None


def test_equally_probable_tokens_are_ranked_by_id():
    logits = torch.zeros(1, 5)
    for token in range(5):
        reading = Reader((token,), logits, logits).read(logits)
        assert (reading.rank, reading.ties) == (1 + token, 4)


def test_a_token_that_never_comes_does_not_spoil_the_divergence():
    logits = torch.tensor([[0.0, 1.0, -math.inf]])
    reading = Reader((0,), logits, logits).read(logits)
    assert (reading.kl_base, reading.kl_donor) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("mixtral", {"num_local_experts": 4}),
        ("qwen3_moe", {"num_experts": 4}),
        ("gemma2", {}),
        ("bloom", {}),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}),
        ("gpt2", {"reorder_and_upcast_attn": True}),
    ],
)
def test_what_cannot_be_grafted_is_refused_by_name(kind: str, options):
    from transformers import AutoConfig

    with pytest.raises(FailedPrecondition) as caught:
        refuse_by_config(AutoConfig.for_model(kind, **options))
    assert caught.value.reason == Reason.UNSUPPORTED_ARCH
    assert kind in str(caught.value)
    assert ("experts" in str(caught.value)) is any("experts" in option for option in options)


def test_weights_that_are_not_finite_are_named():
    model = near(make("gpt2", 0), 1)
    require_finite(model, "tuned")
    with torch.no_grad():
        model.transformer.h[2].mlp.c_fc.bias[3] = math.inf
    with pytest.raises(FailedPrecondition, match=r"h\.2\.mlp\.c_fc\.bias") as caught:
        require_finite(model, "tuned")
    assert caught.value.reason == Reason.NON_FINITE_WEIGHTS
    assert architecture_of(model).layers == LAYERS
    assert torch.isfinite(own(make("gpt2", 0), drawn_ids(0))).all()
