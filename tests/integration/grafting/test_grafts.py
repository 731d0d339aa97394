"""CheckPair and Graft over a real socket, compared with transformers' own passes."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from palimpsest.api.grafting.v1 import grafting_pb2 as pb
from palimpsest.client.requests import FieldValueError
from palimpsest.errors import FailedPrecondition, InvalidArgument, NotFound, Reason
from palimpsest.models import register
from palimpsest.progress import NullProgress
from tests.integration.grafting.conftest import changed

PAIR = {"base": "base", "donor": "tuned"}
CASE = {"prompt": "the quick brown fox jumps over the lazy dog", "target": " and the"}
LAST = [{"positions": {"indices": [-1]}}]
EVERYTHING = [{"positions": {"everything": True}, "components": ["all"]}]


def logprob_of(folder: Path) -> float:
    """Log-probability of the target after the prompt, by transformers."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    prompt, target = tokenizer(CASE["prompt"])["input_ids"], tokenizer(CASE["target"])["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([prompt + target])).logits[0].double()
    logprobs = torch.log_softmax(logits, -1)
    return sum(float(logprobs[len(prompt) - 1 + n, token]) for n, token in enumerate(target))


async def test_readings_are_those_of_the_models_themselves(client, folder):
    nothing = await client.grafting.graft(
        pair=PAIR, case=CASE, patches=[*EVERYTHING, {**EVERYTHING[0], "restore": True}]
    )
    whole = await client.grafting.graft(pair=PAIR, case=CASE, patches=EVERYTHING)
    for reading, name in ((nothing.reading, "base"), (whole.reading, "tuned"), (whole.base, "base")):
        assert reading.logprob == pytest.approx(logprob_of(folder / name), abs=1e-4)
    assert nothing.reading.recovery == pytest.approx(0, abs=1e-4)
    assert whole.reading.recovery == pytest.approx(1, abs=1e-4)
    assert whole.reading.kl_donor == pytest.approx(0, abs=1e-6)
    assert whole.reading.kl_base == pytest.approx(nothing.reading.kl_donor, rel=1.0)
    assert "".join(whole.tokens) == CASE["prompt"]
    assert "".join(whole.target_tokens) == CASE["target"]
    assert len(whole.reading.token_logprobs) == len(whole.target_tokens) > 1
    assert set(whole.patches) == {1}
    assert 0 < whole.row_layers <= whole.naive_row_layers


async def test_spans_indices_and_complements_name_the_same_tokens(client):
    span = {"spans": [{"text": "brown fox"}]}
    named = await client.grafting.graft(pair=PAIR, case=CASE, patches=[{"positions": span}])
    at = [n for n, count in enumerate(named.patches) if count]
    assert "".join(named.tokens[n] for n in at).strip() == "brown fox"
    begin = CASE["prompt"].index("brown fox")
    others = [n for n in range(len(named.tokens)) if n not in at]
    for positions in (
        {"indices": at},
        {"spans": [{"first": begin, "stop": begin + len("brown fox")}]},
        {"indices": others, "complement": True},
    ):
        same = await client.grafting.graft(pair=PAIR, case=CASE, patches=[{"positions": positions}])
        assert same.reading == named.reading
    assert named.reading.logprob != named.base.logprob


async def test_a_donor_for_target_tokens_is_a_choice(client):
    as_last = await client.grafting.graft(pair=PAIR, case=CASE, patches=LAST)
    base = await client.grafting.graft(
        pair=PAIR, case={**CASE, "continuation": pb.CONTINUATION_BASE}, patches=LAST
    )
    assert as_last.reading.token_logprobs[0] == pytest.approx(base.reading.token_logprobs[0], abs=1e-5)
    assert as_last.reading.token_logprobs[1] != pytest.approx(base.reading.token_logprobs[1], abs=1e-5)


BAD = {
    "a text that is not there": (
        {"patches": [{"positions": {"spans": [{"text": "cat"}]}}]}, Reason.SPAN_NOT_FOUND,
    ),
    "an occurrence too many": (
        {"patches": [{"positions": {"spans": [{"text": "the", "occurrence": 3}]}}]}, Reason.SPAN_NOT_FOUND,
    ),
    "characters past the end": (
        {"patches": [{"positions": {"spans": [{"first": 2, "stop": 2000}]}}]}, Reason.SPAN_NOT_FOUND,
    ),
    "a text that is there twice": (
        {"patches": [{"positions": {"spans": [{"text": "the"}]}}]}, Reason.SPAN_AMBIGUOUS,
    ),
    "half a token": (
        {"patches": [{"positions": {"spans": [{"text": "brow"}]}}]}, Reason.SPAN_SPLITS_TOKEN,
    ),
    "a position past the end": (
        {"patches": [{"positions": {"indices": [99]}}]}, Reason.POSITION_OUT_OF_RANGE,
    ),
    "a layer past the end": (
        {"patches": [{**LAST[0], "layers": {"first": 1, "stop": 3}}]}, Reason.LAYER_OUT_OF_RANGE,
    ),
    "a window turned round": (
        {"patches": [{**LAST[0], "layers": {"first": 1, "stop": 1}}]}, Reason.LAYER_OUT_OF_RANGE,
    ),
    "an unknown component": (
        {"patches": [{**LAST[0], "components": ["lm_head"]}]}, Reason.COMPONENT_OUT_OF_RANGE,
    ),
    "no positions": ({"patches": [{"positions": {"complement": False}}]}, Reason.EMPTY_GRAFT),
    "half of a tied matrix": (
        {"patches": [{**LAST[0], "components": ["layer", "head"]}]}, Reason.TIED_WEIGHTS_AMBIGUOUS,
    ),
    "a prompt beyond the context": (
        {"case": {**CASE, "prompt": "dog " * 2100}, "patches": LAST}, Reason.PROMPT_TOO_LONG,
    ),
    "a model with itself": ({"pair": {"base": "base", "donor": "base"}, "patches": LAST}, Reason.INVALID_REQUEST),
    "no target": ({"case": {"prompt": "the"}, "patches": LAST}, Reason.INVALID_REQUEST),
    "no patch": ({"patches": []}, Reason.INVALID_REQUEST),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BAD))
async def test_bad_input_is_told_by_reason_and_field(client, name: str):
    fields, reason = BAD[name]
    with pytest.raises((InvalidArgument, FieldValueError)) as caught:
        await client.grafting.graft(**{"pair": PAIR, "case": CASE, **fields})
    assert caught.value.reason == reason
    assert caught.value.violations, "the field is named"


async def test_a_tied_matrix_may_be_untied_on_purpose(client):
    head = [{**LAST[0], "components": ["head"]}]
    found = await client.grafting.graft(pair=PAIR, case=CASE, patches=head, untie=True)
    assert found.reading.logprob != found.base.logprob
    both = [{**LAST[0], "components": ["head", "embedding"]}]
    await client.grafting.graft(pair=PAIR, case=CASE, patches=both)


@pytest.fixture(scope="module")
def misfits(resources, folder: Path) -> None:
    """Models that do not go with "base": other sizes, a permuted vocabulary, NaN, another architecture."""
    base = folder / "base"

    def narrow(weights):
        for name in [n for n in weights if "mlp" in n]:
            keep = (slice(0, 96),) if "down" not in name else (slice(None), slice(0, 96))
            weights[name] = weights[name][keep].contiguous()

    narrower = changed(base, folder / "narrower", narrow)
    config = json.loads((narrower / "config.json").read_text())
    config |= {"intermediate_size": 96, "rms_norm_eps": 1e-5}
    (narrower / "config.json").write_text(json.dumps(config))

    permuted = Path(shutil.copytree(folder / "tuned", folder / "permuted"))
    tokenizer = json.loads((permuted / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (permuted / "tokenizer.json").write_text(json.dumps(tokenizer))

    def break_one(weights):
        weights["model.layers.1.mlp.up_proj.weight"][3, 4] = float("nan")

    broken = changed(base, folder / "broken", break_one)
    for name, path in {"narrower": narrower, "permuted": permuted, "broken": broken}.items():
        register(name, str(path), resources.models, resources.settings, NullProgress())


@pytest.mark.parametrize(
    ("donor", "reason", "told"),
    [
        ("narrower", Reason.ARCH_MISMATCH, ["intermediate_size", "rms_norm_eps", "96", "160"]),
        ("permuted", Reason.TOKENIZER_MISMATCH, ["2 tokens have other ids", "'a'"]),
        ("broken", Reason.NON_FINITE_WEIGHTS, ["model.layers.1.mlp.up_proj.weight"]),
    ],
)
async def test_a_pair_that_cannot_be_grafted_is_refused_and_described(client, misfits, donor, reason, told):
    pair = {"base": "base", "donor": donor}
    with pytest.raises(FailedPrecondition) as caught:
        await client.grafting.graft(pair=pair, case=CASE, patches=LAST)
    assert caught.value.reason == reason
    assert all(word in str(caught.value) for word in told)
    if donor != "broken":
        with pytest.raises(FailedPrecondition) as queued:
            await client.grafting.sweep_grafts(pair=pair, cases=[CASE])
        assert queued.value.reason == reason
    found = await client.grafting.check_pair(pair=pair)
    assert not found.compatible
    assert found.reason == reason
    assert all(word in " ".join(found.differences) for word in told)


async def test_a_pair_is_described_by_what_differs(client, folder, resources):
    def one(weights):
        weights["model.layers.1.mlp.up_proj.weight"] += 0.25

    register("one", str(changed(folder / "base", folder / "one", one)), resources.models, resources.settings,
             NullProgress())  # fmt: skip
    found = await client.grafting.check_pair(
        pair={"base": "base", "donor": "one"}, prompt="the quick brown fox"
    )
    assert (found.compatible, found.architecture, found.layers, found.tied) == (True, "llama", 2, True)
    (change,) = found.changes
    assert (change.layer, change.component) == (1, "up")
    assert change.delta_norm == pytest.approx(0.25 * (160 * 64) ** 0.5, rel=1e-5)
    assert "".join(token.token for token in found.tokens) == "the quick brown fox"
    assert all(token.kl > 0 for token in found.tokens)
    with pytest.raises(NotFound):
        await client.grafting.check_pair(pair={"base": "base", "donor": "nobody"})
