"""Fingerprints: what a model is, whatever files it lies in.

A fingerprint covers the names, dtypes, shapes and bytes of all tensors, the tokenizer and those fields of the
config that change what the model computes. It does not change with sharding, formatting of JSON files, the
version of transformers that wrote them, or where the folder lies.
"""

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from palimpsest import json_input
from palimpsest.disk import replace_file
from palimpsest.errors import InvalidArgument, Reason
from palimpsest.models.json_files import LARGEST
from palimpsest.models.weights import INDEX_FILE, stored_tensors, weight_files
from palimpsest.progress import NullProgress, Progress

_MEMO_FILE = ".fingerprints.json"
_CONFIG_NOISE = {
    "_name_or_path", "_model_name_or_path", "_commit_hash", "_from_model_config", "transformers_version", "torch_dtype",
    "dtype", "use_cache", "output_attentions", "output_hidden_states", "return_dict", "attn_implementation",
    "_attn_implementation", "_attn_implementation_autoset",
}  # fmt: skip
_TOKENIZER_NOISE = {"version", "truncation", "padding"}
_ID_OPTIONS = {
    "add_bos_token", "add_eos_token", "add_prefix_space", "split_special_tokens", "legacy", "do_lower_case",
    "clean_up_tokenization_spaces", "bos_token", "eos_token", "unk_token",
}  # fmt: skip
_SLOW_TOKENIZER_FILES = (
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "added_tokens.json",
)
_OTHER_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)


@dataclass(frozen=True)
class Fingerprints:
    """Digests, ``sha256:<hex>``, of a whole model and of its tokenizer alone.

    Models with equal tokenizer fingerprints give equal token ids.
    """

    model: str
    tokenizer: str


def fingerprint_folder(
    folder: Path, memo_dir: Path | None = None, progress: Progress | None = None
) -> Fingerprints:
    """Fingerprint a safetensors folder; time grows with its size.

    Parameters
    ----------
    folder
        Folder with weights, config and tokenizer.
    memo_dir
        Remembers results there by path, size and modification time of the files, so that an unchanged folder
        costs nothing.
    progress
        Called with each tensor; may raise to stop.

    Raises
    ------
    InvalidArgument
        MODEL_INVALID or MODEL_PICKLED, as stored_tensors.
    """
    progress = progress or NullProgress()
    seen = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in _files(folder)]
    key = str(folder.resolve())
    memo = _read_memo(memo_dir)
    if key in memo and memo[key].get("files") == seen:
        return Fingerprints(**memo[key]["fingerprints"])
    found = _fingerprint(folder, progress)
    if memo_dir is not None:
        entry = {"files": seen, "fingerprints": asdict(found)}
        _write_memo(memo_dir, {**_read_memo(memo_dir), key: entry})
    return found


def _fingerprint(folder: Path, progress: Progress) -> Fingerprints:
    tokenizer = hashlib.sha256(_canonical(tokenizer_facts(folder))).hexdigest()
    whole = hashlib.sha256()
    whole.update(_canonical([tokenizer, _read_json(folder, "chat_template.jinja"), _config_facts(folder)]))
    tensors = stored_tensors(folder)
    for done, tensor in enumerate(tensors.values()):
        progress.step(done, len(tensors), "fingerprinting")
        whole.update(_canonical([tensor.name, tensor.dtype, tensor.shape]))
        for data in tensor.read():
            whole.update(data)
            progress.check()
    return Fingerprints(f"sha256:{whole.hexdigest()}", f"sha256:{tokenizer}")


def _config_facts(folder: Path) -> list[object]:
    config = _read_json(folder, "config.json")
    settings = _read_json(folder, "generation_config.json")
    ends = settings.get("eos_token_id") if isinstance(settings, dict) else None
    return [_without(config, _CONFIG_NOISE), ends]


def tokenizer_facts(folder: Path) -> dict[str, object]:
    """What decides which ids a text becomes."""
    options = _read_json(folder, "tokenizer_config.json")
    facts: dict[str, object] = {
        "options": {key: options[key] for key in sorted(_ID_OPTIONS & options.keys())}
        if isinstance(options, dict)
        else {}
    }
    if (folder / "tokenizer.json").exists():
        facts["tokenizer.json"] = _without(_read_json(folder, "tokenizer.json"), _TOKENIZER_NOISE)
    else:
        for name in _SLOW_TOKENIZER_FILES:
            if (folder / name).exists():
                facts[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    return facts


def _files(folder: Path) -> list[Path]:
    """Every file a fingerprint depends on."""
    names = [INDEX_FILE, *_OTHER_FILES, *_SLOW_TOKENIZER_FILES]
    return [*weight_files(folder), *(folder / name for name in names if (folder / name).exists())]


def _read_json(folder: Path, name: str) -> object:
    """A file's JSON, or its text where it is not JSON; None if there is no such file."""
    path = folder / name
    try:
        return json_input.read(path, max_bytes=LARGEST, strict=False)
    except FileNotFoundError:
        return None
    except json_input.InvalidJson:
        pass
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        message = f"{path} is not UTF-8 at byte {error.start}. Copy or download it again."
        raise InvalidArgument(Reason.MODEL_INVALID, message) from None


def _without(value: object, noise: set[str]) -> object:
    """Drop noise and unset fields of an object, at every depth."""
    if isinstance(value, dict):
        return {k: _without(v, noise) for k, v in value.items() if k not in noise and v is not None}
    return value


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _read_memo(memo_dir: Path | None) -> dict[str, dict]:
    """Earlier results; a lost or damaged file only costs hashing again."""
    try:
        memo = json.loads((memo_dir / _MEMO_FILE).read_text()) if memo_dir else {}
        return memo if isinstance(memo, dict) else {}
    except (FileNotFoundError, ValueError):
        return {}


def _write_memo(memo_dir: Path, memo: dict[str, dict]) -> None:
    with contextlib.suppress(OSError):  # as on a full disk: what is not remembered costs hashing again
        memo_dir.mkdir(parents=True, exist_ok=True)
        replace_file(memo_dir / _MEMO_FILE, json.dumps(memo))
