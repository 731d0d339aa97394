"""Forward passes against transformers' own, and what caches promise."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Qwen2Config,
    Qwen3Config,
)

from palimpsest.errors import FailedPrecondition, InvalidArgument, ResourceExhausted
from palimpsest.lm import SequenceInput, load
from palimpsest.lm.anatomy import last_mlp
from palimpsest.lm.model import LanguageModel


def ids_of(count: int, seed: int = 0, vocab: int = 300) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, vocab, (count,), generator=generator).tolist()


def expected(model: LanguageModel, ids: list[int]):
    with torch.inference_mode():
        return model.module(input_ids=torch.tensor([ids]), output_hidden_states=True)


@pytest.fixture(params=["compiled", "fused", "transformers"])
def model(request, tiny_model) -> LanguageModel:
    model = load(tiny_model, "cpu", "float32", threads=1, cache_bytes=8 << 20)
    assert model.forward_kind == "compiled"
    if request.param != "compiled":
        model.close()
        model.compiled = None
    if request.param == "transformers":
        model.pool = None
    return model


def test_logits_and_hidden_states_are_transformers(model):
    ids = ids_of(70)
    cache = model.new_cache()
    output = model.forward([SequenceInput(cache, ids, logits="all")], hidden=[0, 1, 2])[0]
    reference = expected(model, ids)
    torch.testing.assert_close(output.logits, reference.logits[0], atol=2e-4, rtol=1e-4)
    for layer in (0, 1, 2):
        torch.testing.assert_close(
            output.hidden[layer], reference.hidden_states[layer][0], atol=2e-4, rtol=1e-4
        )


def keys_by_hook(model: LanguageModel, mlp: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    """What the last MLP reads, [tokens, hidden], in transformers' own pass."""
    seen = []
    hook = mlp.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0].float().clone()))
    expected(model, ids)
    hook.remove()
    return seen[0]


def test_keys_are_what_the_last_mlp_reads(model):
    a, b, c = ids_of(300, 1), ids_of(12, 2), ids_of(9, 3)
    caches = [model.new_cache() for _ in range(3)]
    model.forward([SequenceInput(caches[1], b[:5], logits="none")])
    outputs = model.forward(
        [
            SequenceInput(caches[0], a, logits="none", retrieval_queries="all"),
            SequenceInput(caches[1], b[5:], logits="all", retrieval_queries="all"),
            SequenceInput(caches[2], c, retrieval_queries="last"),
        ]
    )
    mlp = model.module.model.layers[-1].mlp
    for output, ids, start in zip(outputs, (a, b, c), (0, 5, 8), strict=True):
        reference = keys_by_hook(model, mlp, ids)[start:]
        torch.testing.assert_close(output.retrieval_queries, reference, atol=2e-4, rtol=1e-4)
    assert [o.logits.shape[0] for o in outputs] == [0, 7, 1]
    assert model.forward([SequenceInput(caches[2], [4])])[0].retrieval_queries is None
    torch.testing.assert_close(outputs[1].logits, expected(model, b).logits[0, 5:], atol=2e-4, rtol=1e-4)


def test_asking_for_keys_changes_no_bit(tiny):
    ids = ids_of(40)
    plain = tiny.forward([SequenceInput(tiny.new_cache(), ids, logits="all")])[0].logits
    both = tiny.forward([SequenceInput(tiny.new_cache(), ids, logits="all", retrieval_queries="all")])[0]
    single, cache = [], tiny.new_cache()
    for token in ids:
        single.append(
            tiny.forward([SequenceInput(cache, [token], retrieval_queries="last")])[0].retrieval_queries
        )
    assert torch.equal(plain, both.logits)
    assert torch.equal(torch.cat(single), both.retrieval_queries)


def test_ragged_steps_are_the_whole_pass(model):
    a, b, c = ids_of(40, 1), ids_of(33, 2), ids_of(21, 3)
    caches = [model.new_cache() for _ in range(3)]
    model.forward([SequenceInput(caches[0], a[:30], logits="none"), SequenceInput(caches[1], b[:7])])
    outputs = model.forward(
        [
            SequenceInput(caches[0], a[30:], logits="all"),
            SequenceInput(caches[1], b[7:8]),
            SequenceInput(caches[2], c[:20], logits="none"),
        ]
    )
    last = model.forward([SequenceInput(caches[1], b[8:]), SequenceInput(caches[2], c[20:])])
    for got, ids in ((outputs[0].logits[-1], a), (last[0].logits[0], b), (last[1].logits[0], c)):
        torch.testing.assert_close(got, expected(model, ids).logits[0, -1], atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(outputs[0].logits, expected(model, a).logits[0, 30:], atol=2e-4, rtol=1e-4)
    assert outputs[2].logits.shape[0] == 0


def test_embeddings_stand_for_ids(model):
    ids = ids_of(12)
    first, second = model.new_cache(), model.new_cache()
    by_ids = model.forward([SequenceInput(first, ids)])[0].logits
    by_embeddings = model.forward([SequenceInput(second, embeddings=model.embed(ids))])[0].logits
    assert torch.equal(by_ids, by_embeddings)


def test_branches_share_a_past_and_go_their_own_ways(model):
    ids, left, right = ids_of(37), ids_of(20, 5), ids_of(20, 6)
    trunk = model.new_cache()
    model.forward([SequenceInput(trunk, ids, logits="none")])
    other = trunk.branch()
    outputs = [
        model.forward([SequenceInput(trunk, left)])[0],
        model.forward([SequenceInput(other, right)])[0],
    ]
    for output, tail in zip(outputs, (left, right), strict=True):
        torch.testing.assert_close(
            output.logits[0], expected(model, ids + tail).logits[0, -1], atol=2e-4, rtol=1e-4
        )


def test_a_cropped_cache_goes_on_from_there(model):
    ids, tail = ids_of(50), ids_of(9, 4)
    cache = model.new_cache()
    model.forward([SequenceInput(cache, ids, logits="none")])
    cache.crop(21)
    assert cache.length == 21
    output = model.forward([SequenceInput(cache, tail)])[0]
    torch.testing.assert_close(
        output.logits[0], expected(model, ids[:21] + tail).logits[0, -1], atol=2e-4, rtol=1e-4
    )
    with pytest.raises(ValueError, match="crop"):
        cache.crop(31)


def test_exported_keys_and_values_load_elsewhere(model):
    ids, tail = ids_of(45), ids_of(6, 9)
    cache = model.new_cache()
    model.forward([SequenceInput(cache, ids, logits="none")])
    keys, values = cache.export()
    assert keys.shape == values.shape == (2, 2, 45, 16)
    middle = cache.export(17, 40)
    assert torch.equal(middle[0], keys[:, :, 17:40])
    assert torch.equal(middle[1], values[:, :, 17:40])
    twin = model.new_cache()
    twin.load(keys[:, :, :20], values[:, :, :20])
    twin.load(keys[:, :, 20:], values[:, :, 20:])
    again = twin.export()
    assert torch.equal(again[0], keys)
    assert torch.equal(again[1], values)
    one, two = model.forward([SequenceInput(cache, tail)])[0], model.forward([SequenceInput(twin, tail)])[0]
    assert torch.equal(one.logits, two.logits)


def test_a_row_has_the_same_bits_whatever_runs_beside_it(tiny):
    sequences = [ids_of(n, n) for n in (5, 64, 17, 33, 90, 16, 2, 47, 28)]
    alone = []
    for ids in sequences:
        cache = tiny.new_cache()
        steps = [tiny.forward([SequenceInput(cache, [token])])[0].logits for token in ids]
        alone.append(torch.cat(steps))
        cache.release()
    caches = [tiny.new_cache() for _ in sequences]
    together = tiny.forward(
        [SequenceInput(c, ids, logits="all") for c, ids in zip(caches, sequences, strict=True)]
    )
    for own, output in zip(alone, together, strict=True):
        assert torch.equal(own, output.logits)
    for cache in caches:
        cache.release()


def test_threads_do_not_change_bits(tiny, tiny_model):
    model = load(tiny_model, "cpu", "float32", threads=2, cache_bytes=8 << 20)
    torch.set_num_threads(1)
    ids = ids_of(50)
    one = tiny.forward([SequenceInput(tiny.new_cache(), ids, logits="all")])[0].logits
    two = model.forward([SequenceInput(model.new_cache(), ids, logits="all")])[0].logits
    model.close()
    assert torch.equal(one, two)


def test_bfloat16_weights_are_widened_exactly(tiny_model):
    model = load(tiny_model, "cpu", "bfloat16", threads=1, cache_bytes=8 << 20)
    assert model.forward_kind == "compiled"
    ids = ids_of(30)
    output = model.forward([SequenceInput(model.new_cache(), ids, logits="all")])[0].logits
    wide = model.module.float()
    with torch.inference_mode():
        reference = wide(input_ids=torch.tensor([ids])).logits[0]
    # Only the stored keys and values are rounded.
    assert (output - reference).norm() / reference.norm() < 0.02
    model.close()


def test_a_full_cache_is_an_error_and_changes_nothing(tiny_model):
    model = load(tiny_model, "cpu", "float32", threads=1, cache_bytes=10 * 16 * 2 * 2 * 2 * 16 * 4)
    assert model.limits.cache_blocks == 10
    first, second = model.new_cache(), model.new_cache()
    model.forward([SequenceInput(first, ids_of(100), logits="none")])
    with pytest.raises(ResourceExhausted, match="full"):
        model.forward([SequenceInput(first, [1]), SequenceInput(second, ids_of(60))])
    assert (first.length, second.length) == (100, 0)
    first.crop(50)
    model.forward([SequenceInput(second, ids_of(60))])


def test_parameters_of_the_module_are_views_of_the_fused_matrices(tiny):
    layer = tiny.module.model.layers[0]
    fused = tiny.weights.layers[0]
    assert layer.self_attn.k_proj.weight.data_ptr() == fused.qkv[64:].data_ptr()
    assert layer.mlp.up_proj.weight.data_ptr() == fused.gate_up[160:].data_ptr()
    assert tiny.weights.head.data_ptr() == tiny.weights.embedding.data_ptr()


SMALL = {
    "vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        pytest.param(LlamaConfig(**SMALL, rope_parameters=LLAMA3), "compiled", id="llama3-rope"),
        pytest.param(LlamaConfig(**SMALL, tie_word_embeddings=True), "compiled", id="tied"),
        pytest.param(LlamaConfig(**SMALL, attention_bias=True), "transformers", id="output-bias"),
        pytest.param(Qwen2Config(**SMALL), "compiled", id="qwen2-bias"),
        pytest.param(Qwen3Config(**SMALL, head_dim=32), "compiled", id="qwen3-head-norms"),
        pytest.param(MistralConfig(**SMALL, sliding_window=16), "transformers", id="sliding-window"),
        pytest.param(LlamaConfig(**{**SMALL, "intermediate_size": 100}), "fused", id="odd-size"),
        pytest.param(GemmaConfig(**SMALL, head_dim=16), "transformers", id="gemma"),
        pytest.param(
            GPT2Config(vocab_size=320, n_embd=64, n_layer=2, n_head=4, n_positions=256), "transformers", id="gpt2"
        ),
        pytest.param(BloomConfig(vocab_size=320, hidden_size=64, n_layer=2, n_head=4), "transformers", id="bloom"),
    ],
)  # fmt: skip
def test_any_causal_model_is_served_by_a_pass_that_agrees(config, kind, tiny_model, tmp_path):
    torch.manual_seed(1)
    module = AutoModelForCausalLM.from_config(config)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    module.save_pretrained(tmp_path)
    for file in tiny_model.glob("tokenizer*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    model = load(tmp_path, "cpu", "float32", threads=1, cache_bytes=8 << 20)
    assert model.forward_kind == kind
    ids = ids_of(90)
    cache = model.new_cache()
    first = model.forward([SequenceInput(cache, ids[:60], logits="all")])[0].logits
    rest = [model.forward([SequenceInput(cache, [token])])[0].logits for token in ids[60:]]
    torch.testing.assert_close(
        torch.cat([first, *rest]), expected(model, ids).logits[0], atol=2e-3, rtol=1e-3
    )
    mlp = last_mlp(model.module)
    keys = model.forward([SequenceInput(model.new_cache(), ids, logits="none", retrieval_queries="all")])[
        0
    ].retrieval_queries
    torch.testing.assert_close(keys, keys_by_hook(model, mlp, ids), atol=2e-3, rtol=1e-3)
    assert mlp is [m for n, m in model.module.named_modules() if n.endswith(".mlp")][-1]
    model.close()


def test_a_model_without_a_known_mlp_is_refused(tiny_model, tmp_path):
    config = OPTConfig(
        vocab_size=320, hidden_size=64, ffn_dim=96, num_hidden_layers=2, num_attention_heads=4,
        word_embed_proj_dim=64, max_position_embeddings=256,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    for file in tiny_model.glob("tokenizer*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    model = load(tmp_path, "cpu", "float32", threads=1, cache_bytes=8 << 20)
    assert model.forward([SequenceInput(model.new_cache(), [1, 2])])[0].retrieval_queries is None
    with pytest.raises(FailedPrecondition) as caught:
        model.forward([SequenceInput(model.new_cache(), [1, 2], retrieval_queries="last")])
    assert caught.value.reason == "KEY_SITE_UNKNOWN"
    model.close()


def test_a_folder_without_a_model_says_so(tmp_path):
    with pytest.raises(InvalidArgument, match="does not load"):
        load(tmp_path)


def test_an_unknown_dtype_says_what_there_is(tiny_model):
    with pytest.raises(InvalidArgument, match="bfloat16"):
        load(tiny_model, dtype="int3")


@pytest.mark.model
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_sample_model_runs_compiled(sample_model, dtype):
    model = load(sample_model, "cpu", dtype, threads=1, cache_bytes=64 << 20)
    assert model.forward_kind == "compiled"
    ids = model.tokenizer("The first page was written in").input_ids
    logits = model.forward([SequenceInput(model.new_cache(), ids, logits="all")])[0].logits
    error = (logits - expected(model, ids).logits[0].float()).norm() / logits.norm()
    assert error < (1e-4 if dtype == "float32" else 0.05)
    model.close()


def test_branches_share_what_they_have_in_common(model):
    """A trie of continuations gives each branch what reading it whole gives, and a past that can be gone on with."""
    prompt, trunk, twig = ids_of(21, 1), ids_of(290, 2), ids_of(40, 3)
    branches = [trunk, trunk[:280] + twig[:5], trunk[:280] + twig[:3] + twig[20:], [7, 8, 9]]
    base = model.new_cache()
    model.forward([SequenceInput(base, prompt, logits="none")])
    caches = [base.branch() for _ in branches]
    first = SequenceInput(caches[0], trunk, logits="all")
    second = SequenceInput(caches[1], branches[1][280:], logits="all", after=first, shared=280)
    third = SequenceInput(caches[2], branches[2][283:], logits="all", after=second, shared=283)
    rows = [first, second, third, SequenceInput(caches[3], branches[3], logits="all")]
    outputs = model.forward(rows)
    assert [cache.length for cache in caches] == [21 + len(branch) for branch in branches]
    assert base.length == 21
    exact = model.forward_kind == "compiled" and model.pool is not None and model.compiled is not None
    for branch, row, output, cache in zip(branches, rows, outputs, caches, strict=True):
        alone = base.branch()
        whole = model.forward([SequenceInput(alone, branch, logits="all")])[0]
        own = whole.logits[row.shared :]
        torch.testing.assert_close(output.logits, own, atol=0 if exact else 2e-4, rtol=0 if exact else 1e-4)
        after = model.forward([SequenceInput(cache, [5]), SequenceInput(alone, [5])])
        torch.testing.assert_close(after[0].logits, after[1].logits, atol=2e-4, rtol=1e-4)
        alone.release()


def test_a_pass_that_finds_no_room_leaves_no_branch_grown(tiny_model):
    model = load(tiny_model, "cpu", "float32", threads=1, cache_bytes=8 << 20)
    assert model.pool is not None
    while model.pool.available > 3:
        model.pool.take()
    base = model.new_cache()
    base.extend(16)
    caches = [base.branch(), base.branch(), base.branch()]
    first = SequenceInput(caches[0], [1, 2, 3])
    rows = [
        first,
        SequenceInput(caches[1], [4], after=first, shared=2),
        SequenceInput(caches[2], [5], after=first, shared=1),
    ]
    with pytest.raises(ResourceExhausted):
        model.forward(rows)
    assert [cache.length for cache in caches] == [16, 16, 16]
