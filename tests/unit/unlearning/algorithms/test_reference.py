"""What is kept of the model before: numbers for NPO and DPO, the model itself for KLR, or an adapter turned off."""

import copy
import dataclasses
import gc

import pytest
import torch
from torch import nn

from palimpsest.errors import FailedPrecondition, InvalidArgument
from palimpsest.training import adapters
from palimpsest.training.recipe import LoraSettings
from services.unlearning.algorithms import build
from services.unlearning.algorithms.reference import frozen_copy, reference_nll
from services.unlearning.algorithms.refusals import REFUSALS, refusals_for
from tests.unit.unlearning.algorithms import plain
from tests.unit.unlearning.algorithms.conftest import FORGET, RETAIN


def parameters_alive():
    gc.collect()
    return {id(each) for each in gc.get_objects() if type(each) is nn.Parameter}


@pytest.mark.parametrize("name", ["ga", "ga_gdr", "npo", "npo_gdr", "npo_sam", "dpo", "simnpo", "rmu"])
def test_no_second_model_is_held(name, inputs, now):
    inputs = dataclasses.replace(inputs, module=now, reference=None)
    was = parameters_alive()
    objective = build(name, {}, inputs)
    objective.loss(now, 0).backward()
    assert parameters_alive() <= was
    assert {id(each) for each in held(objective) if isinstance(each, nn.Parameter)} <= set(
        map(id, now.parameters())
    )


def held(root):
    """Everything an objective keeps alive, without classes, modules of code and the model's own inside."""
    seen, queue = {}, [root]
    while queue:
        each = queue.pop()
        if id(each) in seen or isinstance(each, type) or type(each).__name__ == "module":
            continue
        seen[id(each)] = each
        if callable(each) and hasattr(each, "__code__"):
            queue += [cell.cell_contents for cell in each.__closure__ or ()]
        elif isinstance(each, nn.Module):
            queue += list(each.parameters())
        elif not isinstance(each, torch.Tensor):
            queue += gc.get_referents(each)
    return list(seen.values())


def test_a_frozen_model_would_be_found(inputs, now, before):
    """That the count above can fail."""
    objective = build("ga_klr", {}, dataclasses.replace(inputs, module=now, reference=before))
    found = {id(each) for each in held(objective) if isinstance(each, nn.Parameter)}
    assert found >= set(map(id, before.parameters()))


def test_reference_likelihoods_are_those_of_every_example(before):
    for batch in (1, 2, 8):
        got = reference_nll(before, FORGET, 0, batch)
        assert got.tolist() == pytest.approx([sum(plain.token_nlls(before, e)) for e in FORGET], rel=1e-9)
        assert not got.requires_grad


def test_a_frozen_copy_is_another_model_without_gradients(now):
    copied = frozen_copy(now)
    assert not any(weight.requires_grad for weight in copied.parameters())
    with torch.no_grad():
        now.model.norm.weight.add_(1)
    assert not torch.equal(copied.model.norm.weight, now.model.norm.weight)


@pytest.mark.parametrize("name", ["ga_klr", "npo_klr", "undial"])
def test_an_adapter_s_run_is_compared_with_the_model_without_it(name, inputs, before):
    adapted = copy.deepcopy(before)
    alone = dataclasses.replace(inputs, module=adapted, reference=None, adapter=True)
    objective = build(name, {}, alone)
    adapters.attach(adapted, LoraSettings(rank=2), 0)
    for module_name, weight in adapted.named_parameters():
        if "lora_B" in module_name:
            nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(len(module_name)))
    trained = [n for n, weight in adapted.named_parameters() if weight.requires_grad]
    whole = build(name, {}, dataclasses.replace(inputs, module=before, reference=before))
    for step in range(2):
        got, want = objective.loss(adapted, step), whole.loss(adapted, step)
        assert got.item() == pytest.approx(want.item(), rel=1e-10)
        got.backward()
        own = {n: w.grad.clone() for n, w in adapted.named_parameters() if w.grad is not None}
        adapted.zero_grad()
        want.backward()
        for n, weight in adapted.named_parameters():
            assert (weight.grad is None) == (n not in own)
            assert weight.grad is None or torch.allclose(weight.grad, own[n], rtol=1e-8, atol=1e-12)
        adapted.zero_grad()
    assert [n for n, weight in adapted.named_parameters() if weight.requires_grad] == trained


def test_an_adapter_that_is_frozen_stays_so(inputs, before):
    adapted = copy.deepcopy(before)
    adapters.attach(adapted, LoraSettings(rank=2), 0)
    adapted.requires_grad_(False)
    objective = build("ga_klr", {}, dataclasses.replace(inputs, module=adapted, reference=None, adapter=True))
    assert not objective.loss(adapted, 0).requires_grad
    assert not any(weight.requires_grad for weight in adapted.parameters())


def test_an_adapter_that_is_not_there_is_missed(inputs, now):
    objective = build("ga_klr", {}, dataclasses.replace(inputs, module=now, reference=None, adapter=True))
    with pytest.raises(FailedPrecondition) as caught:
        objective.loss(now, 0)
    assert caught.value.reason == "ADAPTER_MISSING"


def test_batches_are_a_function_of_the_step(inputs):
    again = dataclasses.replace(inputs)
    for step in (0, 7, 3):
        assert inputs.forget_batch(step).items.tolist() == again.forget_batch(step).items.tolist()
        assert inputs.retain_batch(step).items.tolist() == again.retain_batch(step).items.tolist()
        assert inputs.alternative_batch(step)[1].tolist() == again.alternative_batch(step)[1].tolist()


def test_the_forget_set_drives_the_epoch(inputs):
    for epoch in range(2):
        steps = range(epoch * inputs.steps_per_epoch, (epoch + 1) * inputs.steps_per_epoch)
        seen = [item for step in steps for item in inputs.forget_batch(step).items.tolist()]
        assert sorted(seen) == list(range(len(FORGET)))
    seen = {item for step in range(2) for item in inputs.retain_batch(step).items.tolist()}
    assert seen == set(range(len(RETAIN)))


def test_alternatives_belong_to_the_examples_beside_them(inputs):
    drawn = set()
    for step in range(12):
        forget, (other, places) = inputs.forget_batch(step), inputs.alternative_batch(step)
        assert forget.items.tolist() == other.items.tolist()
        for row, (item, place) in enumerate(zip(other.items.tolist(), places.tolist(), strict=True)):
            want = inputs.alternatives[item][place]
            assert other.ids[row, : len(want.ids)].tolist() == list(want.ids)
            drawn.add((item, place))
    assert len(drawn) > len(FORGET)  # not always the same one


class Letters:
    """A tokenizer of one token a letter."""

    eos_token_id = 1

    def encode(self, text, add_special_tokens):
        assert not add_special_tokens
        return [ord(letter) for letter in text]


def test_refusals_follow_the_same_prompt():
    found = refusals_for(FORGET, Letters(), ["no", "never"])
    for example, options in zip(FORGET, found, strict=True):
        first = example.counted.index(True)
        assert [option.ids[:first] for option in options] == [example.ids[:first]] * 2
        assert options[0].ids[first:] == (32, 110, 111, 1)
        assert [option.counted.index(True) for option in options] == [first] * 2
        assert options[0].name == example.name
    assert len(refusals_for(FORGET[:1], Letters())[0]) == len(REFUSALS) == len(set(REFUSALS))


def test_a_document_has_no_prompt_to_refuse():
    document = dataclasses.replace(RETAIN[0], counted=(False,) + (True,) * (len(RETAIN[0].ids) - 1))
    with pytest.raises(InvalidArgument) as caught:
        refusals_for([document], Letters())
    assert caught.value.violations[0].field == "alternatives"
