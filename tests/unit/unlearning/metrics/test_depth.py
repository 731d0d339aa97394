import copy

import numpy as np
import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from palimpsest.errors import FailedPrecondition, InvalidArgument
from services.unlearning.metrics import depth
from services.unlearning.metrics.depth import depth_score
from services.unlearning.metrics.intervals import Bootstrap
from services.unlearning.metrics.items import Continuation, Pair, Template
from services.unlearning.metrics.patching import Patched, patched_recovery
from services.unlearning.metrics.token_scores import token_scores

RNG = np.random.default_rng(4)
SEQUENCES = [Continuation(f"s{n}", tuple(RNG.integers(0, 300, 8 + n).tolist()), 4 + n % 3) for n in range(6)]
PAIRS = [Pair(f"q{n}", question, "a fox") for n, question in enumerate(("Who runs?", "Who jumps?"))]


def test_a_models_own_states_change_nothing(module):
    found = patched_recovery(module, module, SEQUENCES)
    plain = [scores.nll for scores in token_scores(module, SEQUENCES)]
    np.testing.assert_allclose(found.full_nll, plain, rtol=1e-5)
    np.testing.assert_allclose(found.nll, np.broadcast_to(plain, (2, 6)), rtol=1e-5)
    np.testing.assert_array_equal(found.exact, np.broadcast_to(found.full_exact, (2, 6)))


def test_patched_passes_are_the_rest_of_the_target_run_by_hand(modules):
    source, target = modules[:2]
    found = patched_recovery(source, target, SEQUENCES)
    for at, sequence in enumerate(SEQUENCES):
        ids = torch.tensor([sequence.ids])
        with torch.no_grad():
            states = source(ids, output_hidden_states=True).hidden_states
            positions = torch.arange(ids.shape[1])[None]
            rotary = target.model.rotary_emb(states[1], positions)
            mask = torch.full((ids.shape[1],) * 2, -torch.inf).triu(1)[None, None]
            after = target.model.layers[1](
                states[1], attention_mask=mask, position_ids=positions, position_embeddings=rotary
            )
            after = after if isinstance(after, torch.Tensor) else after[0]
            own = {}
            hook = source.model.layers[1].register_forward_hook(
                lambda _m, _i, out, own=own: own.update(last=out if isinstance(out, torch.Tensor) else out[0])
            )
            source(ids)
            hook.remove()
            for layer, state in enumerate((after, own["last"])):
                logits = target.lm_head(target.model.norm(state))[0].log_softmax(-1)
                nll = -np.mean(
                    [logits[n - 1, sequence.ids[n]].item() for n in range(sequence.start, len(sequence.ids))]
                )
                assert found.nll[layer, at] == pytest.approx(nll, rel=1e-4)


def test_no_hook_stays_behind(modules):
    def hooks() -> int:
        return sum(len(module._forward_hooks) for model in modules[:2] for module in model.modules())

    before = hooks()
    patched_recovery(modules[0], modules[1], SEQUENCES[:1])
    assert hooks() == before


def test_blocks_that_put_out_tuples_are_patched_too():
    torch.manual_seed(1)
    config = GPT2Config(vocab_size=320, n_positions=64, n_embd=32, n_layer=3, n_head=2, initializer_range=0.3)
    source, target = GPT2LMHeadModel(config).eval(), GPT2LMHeadModel(config).eval()
    found = patched_recovery(source, target, SEQUENCES)
    assert np.abs(found.nll - found.full_nll).min() > 1e-4
    assert patched_recovery(target, target, SEQUENCES).nll == pytest.approx(
        np.tile(found.full_nll, (3, 1)), rel=1e-5
    )


def given_recovery(monkeypatch: pytest.MonkeyPatch, of: Patched) -> None:
    monkeypatch.setattr(depth, "patched_recovery", lambda *_args, **_options: of)


def test_with_a_reference_the_nearer_one_decides_by_hand(monkeypatch, module, tokenizer):
    full = np.array([0.1, 0.2])
    reference = Patched(np.array([[0.12, 0.2], [2.1, 1.2], [4.1, 5.2]]), np.zeros((3, 2)), full, np.ones(2))
    # the first layer counts for neither (0.02 and 0 nats lost); half-way are 1.1 and 2.1, and .7 and 2.7
    unlearned = Patched(np.array([[9.0, 9.0], [1.0, 0.8], [2.2, 0.0]]), np.zeros((3, 2)), full, np.ones(2))
    given_recovery(monkeypatch, unlearned)
    found = depth_score(module, module, tokenizer, PAIRS, reference=reference, bootstrap=Bootstrap(100))
    assert [item.value for item in found.score.items] == [0.5, 0.5]
    assert [layer.carried for layer in found.layers] == [None, 0.5, 0.5]
    assert [layer.layer for layer in found.layers] == [1, 2, 3]
    assert found.layers[1].nll == pytest.approx(0.9)
    assert (found.score.convention, found.score.target) == ("reference", 0.0)


def test_without_one_half_of_the_targets_tokens_decide_by_hand(monkeypatch, module, tokenizer):
    exact = np.array([[1.0, 0.2], [0.5, 0.0], [0.4, 0.0], [0.0, 0.0]])
    given_recovery(monkeypatch, Patched(np.ones((4, 2)), exact, np.ones(2), np.array([1.0, 0.0])))
    found = depth_score(module, module, tokenizer, PAIRS, bootstrap=Bootstrap(100))
    # the target itself does not know the second
    assert [(item.id, item.value) for item in found.score.items] == [("q0", 0.5)]
    assert [layer.carried for layer in found.layers] == [1.0, 1.0, 0.0, 0.0]
    assert (found.score.convention, found.score.n) == ("alone", 1)


def test_items_that_tell_nothing_are_refused(module, tokenizer):
    with pytest.raises(InvalidArgument, match="nothing can be told"):
        depth_score(module, module, tokenizer, PAIRS, reference=module, template=Template())


def test_models_that_do_not_fit_or_share_their_layers_are_refused(module, tokenizer):
    config = copy.deepcopy(module.config)
    config.num_hidden_layers = 3
    with pytest.raises(FailedPrecondition, match="METRIC_MODELS_DIFFER"):
        depth_score(type(module)(config), module, tokenizer, PAIRS)

    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.config = module, module.config

    with pytest.raises(FailedPrecondition, match="a second time"):
        depth_score(Wrapper(), module, tokenizer, PAIRS)
