"""JSON of model folders that would break whoever reads it: refused with the file's name, before any library sees it."""

import contextlib
import json
import shutil
import struct

import pytest
from safetensors.torch import load_file

from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.lm import encode_chat, encode_text
from palimpsest.models import fingerprint_folder, verify
from palimpsest.models.folder import inspect_folder
from palimpsest.models.pair import compare
from palimpsest.models.tokenizers import load_tokenizer
from palimpsest.models.weights import stored_tensors
from palimpsest.progress import NullProgress
from services.datastore.tokens import ByteTokenizer

FILES = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]
FILES += ["special_tokens_map.json", "added_tokens.json", "vocab.json"]
CONTENTS = {
    "nested arrays": "[" * 100_000 + "]" * 100_000,
    "nested objects": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "nested a little": '{"a":' * 70 + "1" + "}" * 70,
    "5,000 digits": '{"hidden_size": ' + "9" * 5000 + "}",
    "half a surrogate pair": '{"model_type": "\\ud800"}',
    "a list": "[]",
    "UTF-16": '{"model_type": "llama"}'.encode("utf-16"),
}


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def edit(path, **fields):
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_a_file_that_would_break_its_readers_is_named(copy, name, content):
    folder = copy("m")
    write(folder / name, content)
    with pytest.raises(InvalidArgument, match=name) as refused:
        inspect_folder(folder)
    assert refused.value.reason == Reason.MODEL_INVALID


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_registered_model_that_turns_hostile_has_changed(copy, settings, name):
    from tests.unit.codec.test_calibration import record_of

    folder = copy("m")
    record = record_of(folder, settings)
    for content in CONTENTS.values():
        write(folder / name, content)
        with pytest.raises(FailedPrecondition) as refused:
            verify(record, settings, NullProgress())
        assert refused.value.reason == Reason.MODEL_CHANGED


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_a_comparison_names_the_file(copy, tiny_model, content):
    folder = copy("m")
    write(folder / "config.json", content)
    with pytest.raises(InvalidArgument, match=r"config\.json"):
        compare(tiny_model, folder)


def test_what_libraries_write_is_read(copy, tiny_model):
    folder = copy("m")
    edit(folder / "tokenizer_config.json", model_max_length=10**30 + 19884624838656)
    edit(folder / "config.json", time_step_limit=[0.0, float("inf")])
    assert inspect_folder(folder) == inspect_folder(tiny_model)
    assert fingerprint_folder(folder).model != fingerprint_folder(tiny_model).model


@pytest.mark.parametrize(
    "fields",
    [
        {"max_position_embeddings": 10**30},
        {"max_position_embeddings": float("inf")},
        {"max_position_embeddings": float("nan")},
        {"max_position_embeddings": -1},
        {"max_position_embeddings": "2048"},
        {"max_position_embeddings": [2048]},
        {"num_hidden_layers": 10**30},
        {"num_hidden_layers": 1_000_000},
        {"head_dim": -16},
        {"hidden_size": float("inf")},
        {"vocab_size": 10**300},
        {"vocab_size": 0},
        {"eos_token_id": {"a": 1}},
        {"rope_parameters": [[[]]]},
        {"tie_word_embeddings": "no"},
    ],
    ids=str,
)
def test_sizes_that_no_model_has_are_refused(copy, fields):
    folder = copy("m")
    edit(folder / "config.json", **fields)
    with pytest.raises(InvalidArgument, match=r"config\.json") as refused:
        inspect_folder(folder)
    assert refused.value.reason == Reason.MODEL_INVALID


HEADERS = {
    "nested": b"[" * 100_000,
    "nested within": b'{"a": ' * 70 + b"1" + b"}" * 70,
    "digits": b'{"a": {"dtype": "F32", "shape": [%s], "data_offsets": [0, 4]}}' % (b"9" * 5000),
    "a tensor twice": b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},'
    b' "a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}',
    "shape as text": b'{"a": {"dtype": "F32", "shape": ["2"], "data_offsets": [0, 8]}}',
    "shape in other digits": '{"a": {"dtype": "F32", "shape": ["٢"], "data_offsets": [0, 8]}}'.encode(),
    "shape as fraction": b'{"a": {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]}}',
    "shape as truth": b'{"a": {"dtype": "F32", "shape": [true, 2], "data_offsets": [0, 8]}}',
    "offsets as fractions": b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0.0, 8.0]}}',
    "endless offsets": b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, Infinity]}}',
    "offset of 1e308": b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 1e308]}}',
    "dtype as list": b'{"a": {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]}}',
    "a million dimensions": b'{"a": {"dtype": "F32", "shape": [%s1], "data_offsets": [0, 8]}}'
    % (b"9223372036854775807," * 100_000),
    "half a surrogate pair": b'{"\\ud800": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}',
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_hostile_weights_header_is_refused_by_name(copy, header):
    folder = copy("m")
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 8)
    with pytest.raises(InvalidArgument, match=r"model\.safetensors") as refused:
        stored_tensors(folder)
    assert refused.value.reason == Reason.MODEL_INVALID


INDEXES = {
    "nested": "[" * 100_000,
    "nested within": '{"weight_map": ' + '{"a":' * 70 + "1" + "}" * 70 + "}",
    "digits": '{"weight_map": {"a": "x.safetensors"}, "metadata": {"total_size": ' + "9" * 5000 + "}}",
    "no map": "{}",
    "a list": '{"weight_map": ["x.safetensors"]}',
    "a map of objects": '{"weight_map": {"a": {"b": "x.safetensors"}}}',
    "one tensor in two": '{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}',
    "a name of 300 bytes": '{"weight_map": {"a": "' + "x" * 300 + '.safetensors"}}',
    "a name with a zero": '{"weight_map": {"a": "x\\u0000.safetensors"}}',
    "half a surrogate pair": '{"weight_map": {"a": "\\ud800.safetensors"}}',
}


@pytest.mark.parametrize("content", INDEXES.values(), ids=INDEXES)
def test_a_hostile_index_is_refused_by_name(copy, content):
    folder = copy("m")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(InvalidArgument, match=r"model\.safetensors\.index\.json") as refused:
        stored_tensors(folder)
    assert refused.value.reason == Reason.MODEL_INVALID


def test_a_chat_template_that_is_not_utf8_is_named(copy):
    folder = copy("m")
    (folder / "chat_template.jinja").write_bytes(b"{{ \xff }}")
    with pytest.raises(InvalidArgument, match=r"chat_template\.jinja is not UTF-8 at byte 3"):
        fingerprint_folder(folder)
    with pytest.raises(InvalidArgument):
        inspect_folder(folder)


def test_sound_weights_are_read_as_before(tiny_model):
    assert stored_tensors(tiny_model).keys() == load_file(tiny_model / "model.safetensors").keys()


TOKENIZERS = {
    "a panic on reading": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
    "a panic in use": {
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "nobody", "type_id": 0}}],
            "pair": [],
            "special_tokens": {},
        }
    },
    "a regular expression that is none": {
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False}
    },
    "an id beyond 32 bits": {"added_tokens": [{"id": 2**32, "content": "x", "special": True}]},
}


@pytest.mark.parametrize("fields", TOKENIZERS.values(), ids=TOKENIZERS)
def test_a_tokenizer_that_fails_or_panics_is_refused(copy, fields):
    folder = copy("m")
    edit(folder / "tokenizer.json", **fields)
    with pytest.raises(InvalidArgument, match="tokenizer") as refused:
        inspect_folder(folder)
    assert refused.value.reason == Reason.MODEL_INVALID


def test_a_tokenizer_that_fails_on_a_text_fails_for_that_text_alone(copy):
    """A panic is no ``Exception``: let through, it would end whoever tokenizes."""
    folder = copy("m")
    edit(folder / "tokenizer.json", post_processor=TOKENIZERS["a panic in use"]["post_processor"])
    tokenizer = load_tokenizer(folder)
    with pytest.raises(FailedPrecondition) as refused:
        encode_text(tokenizer, "text")
    assert refused.value.reason == Reason.MODEL_INVALID
    edit(folder / "tokenizer.json", normalizer=TOKENIZERS["a panic on reading"]["normalizer"])
    for load in (load_tokenizer, ByteTokenizer):
        with pytest.raises(FailedPrecondition) as refused:
            load(folder)
        assert refused.value.reason == Reason.MODEL_INVALID


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ["[" * 100_000, "{", "[]", '{"model": {}}', ""], ids=str.__len__)
def test_a_tokenizer_that_changed_since_registration_is_told(copy, name, content):
    folder = copy("m")
    (folder / name).write_text(content)
    with contextlib.suppress(FailedPrecondition):
        load_tokenizer(folder)
    shutil.rmtree(folder)
    with pytest.raises(FailedPrecondition) as refused:
        load_tokenizer(folder)
    assert refused.value.reason == Reason.MODEL_CHANGED


CHAT = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    "template",
    ["{{ 1 / 0 }}", "{{ messages[5].x.y }}", "{{ 'a' + 1 }}", "{{ raise_exception('no') }}", "{% for %}",
     "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{{ '%d' % 'x' }}"],
)  # fmt: skip
def test_a_chat_template_that_fails_refuses_the_chat(copy, template):
    folder = copy("m")
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(InvalidArgument) as refused:
        encode_chat(load_tokenizer(folder), CHAT)
    assert refused.value.reason == Reason.CHAT_INVALID
