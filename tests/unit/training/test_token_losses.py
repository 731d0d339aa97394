"""Losses in chunks of positions, and their gradients: those of transformers' own pass and torch's cross entropy."""

import pytest
import torch
import transformers
from torch.nn import functional

from palimpsest.training import collate, counts, sequence_nll, token_losses, token_nll
from palimpsest.training.token_losses import at_positions, is_separable

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 48}
GATED = {**SMALL, "intermediate_size": 24, "num_key_value_heads": 1, "head_dim": 8, "pad_token_id": 0}
TIED, OWN = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}
MODELS = {
    "llama": transformers.LlamaConfig(**GATED, **OWN),
    "llama, tied": transformers.LlamaConfig(**GATED, **TIED),
    "gemma2, capped": transformers.Gemma2Config(**GATED, final_logit_softcapping=0.5),
    "gemma3, windows": transformers.Gemma3TextConfig(**GATED, sliding_window=4),
    "granite, scaled": transformers.GraniteConfig(**GATED, **OWN, logits_scaling=0.1),
    "cohere, scaled": transformers.CohereConfig(**GATED, logit_scale=4.0),
    "qwen2": transformers.Qwen2Config(**{k: v for k, v in GATED.items() if k != "head_dim"}, **TIED),
    "gpt2": transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=48, n_positions=32),
    "gptj, with bias": transformers.GPTJConfig(n_embd=16, n_layer=2, n_head=2, vocab_size=48, rotary_dim=4),
    "neox": transformers.GPTNeoXConfig(**SMALL, intermediate_size=24),
    "opt": transformers.OPTConfig(**SMALL, ffn_dim=24, word_embed_proj_dim=16, pad_token_id=1),
    "mamba": transformers.MambaConfig(hidden_size=16, num_hidden_layers=2, vocab_size=48, state_size=4),
    "bert, transformed": transformers.BertConfig(**SMALL, intermediate_size=24, is_decoder=True),
    "mixtral, experts": transformers.MixtralConfig(
        **GATED, num_local_experts=2, num_experts_per_tok=1, experts_implementation="eager"
    ),
}


@pytest.fixture(autouse=True)
def _few_kept(monkeypatch):
    """Room for the logits of three positions of these models: the others are computed again, as large ones are."""
    monkeypatch.setattr(token_losses, "KEPT", 3 * 48 * 8)


@pytest.fixture(params=MODELS)
def module(request):
    torch.manual_seed(11)
    made = transformers.AutoModelForCausalLM.from_config(MODELS[request.param]).double().eval()
    with torch.no_grad():  # fresh heads are small, and would hide a cap or a scale that is left out
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return made


def plain(module, batch):
    """The loss as transformers computes it: all logits at once, and labels of -100 where a token does not count."""
    logits = module(input_ids=batch.ids, attention_mask=batch.attention, use_cache=False).logits
    labels = batch.ids.masked_fill(~batch.counted, -100)[:, 1:]
    return functional.cross_entropy(
        logits[:, :-1].transpose(1, 2), labels, reduction="none", ignore_index=-100
    )


def close(got, expected, name=""):
    """Equal but for rounding: in float64, or in float32 where the architecture makes its logits of that (mamba)."""
    narrow = expected.dtype == torch.float32 or "mamba" in name
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=2e-6 if narrow else 1e-12, msg=name or None)


def gradients(module, loss):
    module.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("chunk", [3, 1000])
def test_losses_and_gradients_are_those_of_the_plain_way(module, examples, chunk):
    batch = collate(examples, [10, 0, 4, 6], 0)
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)[:, None]
    expected, got = plain(module, batch), token_nll(module, batch, chunk=chunk)
    assert got.shape == (4, 11)
    close(got, expected)
    one = gradients(module, (expected * weights).sum())
    other = gradients(module, (token_nll(module, batch, chunk=chunk) * weights).sum())
    assert one.keys() == other.keys()
    for name, gradient in one.items():
        close(other[name], gradient, f"{module.config.model_type} {name}")


def test_a_padded_batch_is_its_items_one_by_one(module, examples):
    indices = [10, 0, 4, 6]
    together = sequence_nll(module, collate(examples, indices, 0))
    alone = [sequence_nll(module, collate(examples, [index], 0)) for index in indices]
    close(together, torch.cat(alone))


def test_which_token_pads_makes_no_difference(module, examples):
    rows = [3, 9]
    torch.testing.assert_close(
        token_nll(module, collate(examples, rows, 0)),
        token_nll(module, collate(examples, rows, 47)),
        rtol=1e-9,
        atol=1e-12,
    )


def test_the_hidden_states_of_every_kind_become_logits_by_themselves(module):
    """Otherwise the tests above compare the plain way with itself. OPT calls a part of its inner model."""
    assert is_separable(module, torch.device("cpu")) == (module.config.model_type != "opt")


class Twice(torch.nn.Module):
    """Logits that depend on the position as well, as no causal LM here has them."""

    def __init__(self, inner):
        super().__init__()
        self.base_model, self.inner = inner.model, inner

    def forward(self, input_ids, attention_mask=None, use_cache=False):
        output = self.inner(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
        output.logits = output.logits * torch.arange(1, output.logits.shape[1] + 1)[:, None]
        return output


def test_a_module_that_is_not_separable_is_computed_whole(make_model, examples):
    module = Twice(make_model(torch.float64))
    batch = collate(examples, [10, 4], 0)
    assert not is_separable(module, torch.device("cpu"))
    torch.testing.assert_close(
        token_nll(module, batch, chunk=3), plain(module, batch), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("kept", [0, 3, 6, 1000])
def test_logits_of_no_more_than_a_chunk_and_of_what_is_kept_exist_at_once(
    make_model, examples, monkeypatch, kept
):
    monkeypatch.setattr(token_losses, "KEPT", kept * 48 * 4)
    module = make_model()
    batch, seen = collate(examples, [10, 9, 8], 0), []
    token_nll(module, batch)  # tries whether it is separable
    module.lm_head.register_forward_hook(lambda _m, _i, out: seen.append(out.shape[:-1].numel()))
    token_nll(module, batch, chunk=4).sum().backward()
    total = int(counts(batch).sum())
    assert max(seen) == 4
    last = [min(4, total - first) for first in range(0, total, 4) if total - first <= kept]
    assert sum(seen) == 2 * total - sum(last), "once forwards, once again for the gradient unless it was kept"


def test_what_is_kept_does_not_move_a_bit(make_model, examples, monkeypatch):
    found = []
    for kept in (0, 5, 1000):
        monkeypatch.setattr(token_losses, "KEPT", kept * 48 * 4)
        module = make_model()
        token_nll(module, collate(examples, [10, 9, 8], 0), chunk=4).sum().backward()
        found.append([weight.grad for weight in module.parameters()])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_float32_comes_of_bfloat16(make_model, examples):
    batch = collate(examples, [5, 6], 0)
    got = token_nll(make_model(torch.bfloat16), batch)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, token_nll(make_model(), batch), rtol=0.05, atol=0.2)


def test_nothing_that_counts_is_zero_with_a_gradient(make_model, examples):
    module = make_model()
    batch = collate(examples, [3], 0)
    batch.counted.zero_()
    loss = sequence_nll(module, batch).sum()
    loss.backward()
    assert loss.item() == 0
    assert not any(p.grad is not None and p.grad.any() for p in module.parameters())


def test_without_gradients_there_is_no_graph(make_model, examples):
    with torch.no_grad():
        assert not token_nll(make_model(), collate(examples, [5], 0)).requires_grad


def test_any_function_of_the_logits(make_model, examples):
    """Entropies, as an example of what else is computed from logits."""
    module, batch = make_model(torch.float64), collate(examples, [10, 5], 0)
    got = at_positions(
        module,
        batch,
        lambda logits, _r, _c: torch.distributions.Categorical(logits=logits).entropy(),
        chunk=2,
    )
    logits = module(input_ids=batch.ids, attention_mask=batch.attention).logits[:, :-1]
    expected = torch.distributions.Categorical(logits=logits).entropy() * batch.counted[:, 1:]
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)


def test_the_module_is_left_as_it_was(make_model, examples):
    module = make_model()
    token_nll(module, collate(examples, [5], 0)).sum().backward()
    assert "forward" not in vars(module.model)
