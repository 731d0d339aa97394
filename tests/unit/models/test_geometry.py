"""A model's sizes come from its config, once: stored at registration, read where an older record lacks them."""

import json
import shutil
from dataclasses import replace

import pytest
from transformers import GPT2Config, LlamaConfig, MambaConfig

from palimpsest.models import ModelGeometry, ModelRecord
from palimpsest.models.folder import inspect_folder

TINY = ModelGeometry(layers=2, hidden_size=64, kv_heads=2, head_dim=16, rotary="half", rotary_theta=10_000.0)


def record(folder, **fields):
    facts = vars(inspect_folder(folder))
    return ModelRecord(
        model_id="tiny",
        fingerprint=f"sha256:{folder}",
        tokenizer_fingerprint="sha256:2",
        source=str(folder),
        source_format="safetensors",
        path=str(folder),
        **{**facts, **fields},
    )


def test_it_is_stored_with_the_record(copy):
    folder = copy("model")
    stored = record(folder).to_json()
    shutil.rmtree(folder)
    assert ModelRecord.from_json(stored).geometry == TINY, "no file is read"


def test_a_record_of_an_older_version_reads_the_config(copy):
    fields = json.loads(record(copy("model")).to_json())
    del fields["stored_geometry"]
    old = ModelRecord.from_json(json.dumps(fields))
    assert old.stored_geometry is None
    assert old.geometry == TINY
    assert replace(old, path="/nowhere").stored_geometry is None


def test_it_stays_out_of_the_contract(tiny_model):
    assert record(tiny_model).message().model_id == "tiny"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (GPT2Config(n_layer=3, n_embd=48, n_head=4), ModelGeometry(3, 48, 4, 12)),
        (
            LlamaConfig(num_hidden_layers=1, hidden_size=64, num_attention_heads=4, num_key_value_heads=1),
            ModelGeometry(1, 64, 1, 16, "half", 10_000.0),
        ),
        (MambaConfig(num_hidden_layers=2, hidden_size=64), ModelGeometry(2, 64, 0, 0)),
    ],
)
def test_configs_of_many_kinds(config, expected):
    assert ModelGeometry.of(config) == expected
