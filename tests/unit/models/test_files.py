"""Folders with what is no file in them, headers that claim more than the files hold: refused before they cost time."""

import json
import os
import socket
from pathlib import Path

import gguf
import pytest

from palimpsest.errors import FailedPrecondition, InvalidArgument, NotFound
from palimpsest.models import register, verify
from palimpsest.models.claims import check_claims
from palimpsest.models.files import open_regular
from palimpsest.models.folder import inspect_folder
from palimpsest.models.gguf_file import read_gguf_header
from palimpsest.progress import NullProgress

pytestmark = pytest.mark.timeout(120)  # what is refused here would otherwise be waited for
NAMES = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "model.safetensors",
    "chat_template.jinja",
    "special_tokens_map.json",
    "additional_chat_templates/other.jinja",
    "a file that nobody asks for",
]


@pytest.fixture
def enrol(catalogue, settings):
    return lambda source: register("m", str(source), catalogue, settings, NullProgress())


def refused(call) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        call()
    assert caught.value.reason == "MODEL_INVALID"
    return caught.value


def fifo(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def device(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def bound_socket(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as opened:
        here = Path.cwd()
        os.chdir(path.parent)  # names of sockets are short
        try:
            opened.bind(path.name)
        finally:
            os.chdir(here)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("make", [fifo, device, bound_socket])
def test_a_folder_with_something_that_is_no_file(enrol, copy, name, make):
    folder = copy("m")
    make(folder / name)
    assert str(folder / name) in refused(lambda: enrol(folder)).message
    refused(lambda: inspect_folder(folder))


def test_a_source_that_is_no_file(enrol, tmp_path):
    for make in (fifo, device, bound_socket):
        make(tmp_path / "m.gguf")
        refused(lambda: enrol(tmp_path / "m.gguf"))
    refused(lambda: read_gguf_header(tmp_path / "m.gguf"))
    with pytest.raises(NotFound):
        enrol(tmp_path / "nothing.gguf")


def test_links_to_files_and_folders_are_fine(enrol, copy, tmp_path):
    folder = copy("m")
    (folder / "model.safetensors").rename(tmp_path / "elsewhere")
    (folder / "model.safetensors").symlink_to(tmp_path / "elsewhere")
    (folder / "original").mkdir()
    (folder / "README.md").symlink_to(tmp_path / "nothing")
    assert enrol(folder).model_id == "m"


def test_a_loop_of_links(enrol, copy):
    folder = copy("m")
    (folder / "chat.json").symlink_to(folder / "chat.json")
    refused(lambda: enrol(folder))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_registered_model_whose_file_became_a_fifo(enrol, settings, copy, name):
    folder = copy("m")
    record = enrol(folder)
    fifo(folder / name)
    with pytest.raises(FailedPrecondition) as caught:
        verify(record, settings, NullProgress())
    assert caught.value.reason == "MODEL_CHANGED"


def test_a_file_is_opened_without_waiting(tmp_path):
    fifo(tmp_path / "f")
    refused(lambda: open_regular(tmp_path / "f"))
    (tmp_path / "g").write_bytes(b"abc")
    with open_regular(tmp_path / "g") as file:
        assert file.read() == b"abc"


@pytest.mark.parametrize(
    "claim",
    [
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": 10**30},
        {"num_labels": 10**9},
        {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_local_experts": 10**9},
        {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_layer": 10**8},
        {"text_config": {"num_hidden_layers": 10**9}},
    ],
    ids=str,
)
def test_a_config_that_claims_more_than_the_files_hold(enrol, copy, claim):
    folder = copy("m")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **claim}))
    error = refused(lambda: enrol(folder))
    assert error.metadata["tensors"] == str(len(tensor_names(folder)))
    assert error.metadata["name"] in str(claim)


@pytest.mark.parametrize(
    "claim",
    [
        {"hidden_size": 10**12},
        {"vocab_size": 10**12},
        {"intermediate_size": 10**12},
        {"head_dim": 10**12},
        {"hidden_size": 10**9, "vocab_size": 10**9, "intermediate_size": 10**9},
    ],
    ids=str,
)
def test_enormous_sizes_are_refused_without_the_memory(enrol, copy, claim):
    folder = copy("m")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **claim}))
    refused(lambda: enrol(folder))


def tensor_names(folder: Path) -> list[str]:
    data = (folder / "model.safetensors").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return [name for name in header if name != "__metadata__"]


@pytest.mark.parametrize("key", ["llama.block_count", "llama.expert_count", "llama.attention.head_count"])
def test_a_gguf_header_that_claims_more_than_the_file_holds(enrol, tiny_gguf, tmp_path, key):
    path = tmp_path / "m.gguf"
    reader = gguf.GGUFReader(tiny_gguf)
    writer = gguf.GGUFWriter(path, "llama")
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name not in (key, "general.architecture"):
            writer.add_key_value(field.name, field.contents(), field.types[0], *field.types[1:2])
    writer.add_uint32(key, 10**9)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert read_gguf_header(tiny_gguf).architecture == "llama"
    assert refused(lambda: enrol(path)).metadata["name"] == key


def test_what_counts_as_a_claim():
    shapes = [(64, 8)] * 10
    check_claims(
        {"num_hidden_layers": 10, "num_experts": 64, "max_window_layers": 99, "n": 10**9}, shapes, "f"
    )
    check_claims({"use_layers": True, "layers": "many", "num_layers": 1e9}, shapes, "f")
    for claim in ({"num_hidden_layers": 11}, {"num_experts": 65}, {"a": {"b": {"n_layer": 11}}}):
        refused(lambda claim=claim: check_claims(claim, shapes, "f"))
