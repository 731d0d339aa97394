"""The small model: loads as any other, the same for each seed, and no text is unknown to it."""

import torch

from palimpsest.lm import load
from palimpsest.training.base_model import ModelShape, write_base_model
from services.unlearning.corpora import build_generic

SHAPE = ModelShape(hidden=32, layers=1, heads=2, inner=64, vocabulary=400, positions=128)


def test_the_folder_loads_and_is_the_same_for_each_seed(tmp_path):
    texts = [document.text for document in build_generic(0, documents=12, unseen=0).documents]
    before = torch.random.get_rng_state()
    folders = [write_base_model(tmp_path / str(at), texts, seed, SHAPE) for at, seed in enumerate((1, 1, 2))]
    assert torch.equal(torch.random.get_rng_state(), before)
    models = [load(folder, "cpu", trainable=True, threads=1) for folder in folders]
    weights = [torch.cat([p.detach().flatten() for p in model.module.parameters()]) for model in models]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    tokenizer = models[0].tokenizer
    assert len(tokenizer) == 400
    assert tokenizer.eos_token_id != tokenizer.pad_token_id
    for text in (texts[0], "Ünïcode 🜚\n\n  spaces"):
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text
    logits = models[0].module(torch.tensor([tokenizer(texts[0])["input_ids"]])).logits
    assert logits.shape[-1] == 400
    assert logits.dtype == torch.float32


def test_the_default_has_a_million_parameters(tmp_path):
    texts = [document.text for document in build_generic(0, documents=120, unseen=0).documents]
    model = load(write_base_model(tmp_path, texts, 0), "cpu", trainable=True, threads=1)
    assert sum(p.numel() for p in model.module.parameters()) == 984_192
