"""GGUF to safetensors, once: a quantised file becomes a folder that loads in seconds ever after.

The folder is named by the SHA-256 of the GGUF file, written beside its final name and renamed into place, so a
reader sees a whole folder or none, and a second registration of the same file finds it.
"""

import contextlib
import fcntl
import hashlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palimpsest.disk import sync, sync_tree
from palimpsest.errors import InvalidArgument, Reason, ResourceExhausted
from palimpsest.model_building import building
from palimpsest.models.completeness import require_whole
from palimpsest.models.files import open_regular
from palimpsest.models.gguf_file import GgufHeader, read_gguf_header
from palimpsest.models.gguf_limits import DIGITS_APART, LLAMA_3, refuse_unread, unread_tensors
from palimpsest.progress import NullProgress, Progress

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_STAGES = 4
_WIDEST_BYTES = 4
"""Bytes of one float32."""
_LOCK_POLL_SECONDS = 0.2
_LLAMA_3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def convert_gguf(path: Path, models_dir: Path, progress: Progress | None = None) -> Path:
    """Convert a GGUF file to a safetensors folder under models_dir, or find the earlier conversion.

    Weights are dequantised to float32; a file stored in bfloat16 stays bfloat16. Needs memory for the whole
    dequantised model, once.

    Parameters
    ----------
    path
        The GGUF file.
    models_dir
        Folder that keeps conversions; created if missing.
    progress
        Called with each stage; may raise between stages to stop.

    Returns
    -------
    Path
        ``<models_dir>/gguf-<sha256 of the file>`` with config, weights, tokenizer and chat template.

    Raises
    ------
    InvalidArgument
        MODEL_INVALID: not a whole GGUF file, of an architecture transformers does not read, or with tensors or settings
        that it would leave out or draw at random.
    ResourceExhausted
        STORE_FULL: the disk has no room for the converted weights.
    """
    progress = progress or NullProgress()
    header = read_gguf_header(path)
    refuse_unread(path, header)
    progress.step(0, _STAGES, "hashing the GGUF file")
    name = f"gguf-{_file_digest(path, progress)}"
    folder = models_dir / name
    if folder.is_dir():
        return folder
    models_dir.mkdir(parents=True, exist_ok=True)
    _check_space(header, models_dir)
    with held(folder, progress):
        if folder.is_dir():
            return folder
        partial = models_dir / f".{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            _convert_into(partial, path, header, progress)
            progress.step(3, _STAGES, "storing")
            sync_tree(partial)
            partial.rename(folder)
            sync(models_dir)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def _check_space(header: GgufHeader, models_dir: Path) -> None:
    needed, free = header.elements * _WIDEST_BYTES, shutil.disk_usage(models_dir).free
    if free < needed:
        message = (
            f"The converted model needs up to {needed >> 20} MiB in {models_dir}; {free >> 20} MiB are free."
        )
        raise ResourceExhausted(Reason.STORE_FULL, message)


def _convert_into(folder: Path, path: Path, header: GgufHeader, progress: Progress) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    # transformers looks for companions beside the file it is given: show it a folder that has none.
    alone = folder / "source"
    alone.mkdir(parents=True)
    (alone / "model.gguf").symlink_to(path.resolve())
    matrices = {kind for kind in header.tensor_types.values() if kind != "F32"}
    dtype = torch.bfloat16 if matrices == {"BF16"} else torch.float32
    try:
        progress.step(1, _STAGES, "reading the tokenizer")
        tokenizer = AutoTokenizer.from_pretrained(alone, gguf_file="model.gguf", trust_remote_code=False)
        progress.step(2, _STAGES, "dequantising the weights")
        loader: Any = AutoModelForCausalLM  # whose stubs do not know output_loading_info
        with building():
            model, info = loader.from_pretrained(
                alone,
                gguf_file="model.gguf",
                dtype=dtype,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # told below, with the others
                output_loading_info=True,
            )
        unread = unread_tensors(header, model)
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        NotImplementedError,
        RuntimeError,
        IndexError,
    ) as error:
        message = (
            f"{path} is a GGUF file of architecture {header.architecture!r} that cannot be converted: {error}"
        )
        raise InvalidArgument(Reason.MODEL_INVALID, message) from error
    require_whole(path, info, unread=unread)
    restore_splitting(tokenizer.backend_tokenizer, str(header.metadata.get("tokenizer.ggml.pre", "")))
    shutil.rmtree(alone)
    # What is saved is no longer quantised, and saving refuses a model that claims to be.
    vars(model).update(is_quantized=False, hf_quantizer=None)
    vars(model.config).pop("quantization_config")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def restore_splitting(tokenizer: "Tokenizer", splitting: str) -> None:
    r"""Put back how a tokenizer splits text before merging, which transformers' GGUF reader leaves out.

    It gives every llama file GPT-2's rules, under which ``"\n\n1"`` and ``"12345"`` become other ids than those
    the model was trained on.

    Parameters
    ----------
    tokenizer
        Changed in place.
    splitting
        The file's ``tokenizer.ggml.pre``; those not known here leave the tokenizer as it is.
    """
    from tokenizers import Regex, models, pre_tokenizers

    if splitting in DIGITS_APART:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    elif splitting in LLAMA_3 and isinstance(tokenizer.model, models.BPE):
        words = pre_tokenizers.Split(Regex(_LLAMA_3_WORDS), behavior="isolated")
        bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, bytes_])
        tokenizer.model.ignore_merges = True


@contextlib.contextmanager
def held(folder: Path, progress: Progress) -> Iterator[None]:
    """Keep other processes from making or deleting a converted folder; the kernel lets go if this one dies."""
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                progress.step(0, 0, "waiting for another process that works on the same file")
                time.sleep(_LOCK_POLL_SECONDS)
        yield


def _file_digest(path: Path, progress: Progress) -> str:
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while chunk := file.read(8 << 20):
            digest.update(chunk)
            progress.check()
    return digest.hexdigest()
