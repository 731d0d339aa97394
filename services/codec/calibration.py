"""Calibrates a model: caches of sample texts to a profile, and the measured loss of each of its levels."""

import hashlib
import json
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from palimpsest import json_input
from palimpsest.api.codec.v1 import codec_pb2 as pb
from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.kv import CalibrationProfile, KeyValues, calibrate, decode, encode, from_cache, to_cache
from palimpsest.kv.sensitivity import measure
from palimpsest.lm.loading import load
from palimpsest.models import ModelRecord, verify
from palimpsest.progress import Progress
from palimpsest.settings import Settings
from services.codec.coding import rotary_of

HELD_OUT = 4
"""Texts held out of the calibration, to measure its levels on."""
FEWEST = 4
"""Fewest texts to learn from."""
CHUNK = 512
_LONGEST_LINE = 64 << 20
"""Bytes of a line of JSONL."""


@dataclass(frozen=True)
class Samples:
    """What to calibrate with.

    Attributes
    ----------
    texts
        Plain text, or JSONL with a "text" in each line; empty: the sample text of every Python.
    documents, tokens
        How many texts, and tokens of each.
    group
        Layers coded together.
    """

    texts: str
    documents: int
    tokens: int
    group: int

    @cached_property
    def digest(self) -> str:
        """Of everything that decides the profile."""
        facts = {"format": 1, "documents": self.documents, "tokens": self.tokens, "group": self.group}
        text = json.dumps(facts, sort_keys=True) + self.texts
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

    def cut(self, tokenizer: Any) -> list[list[int]]:
        """Token ids of excerpts of equal length from all over the texts.

        Raises
        ------
        InvalidArgument
            KV_CALIBRATION: the texts are too short.
        """
        sources = _sources(self.texts) if self.texts else list(_sample_texts())
        wanted = self.documents + HELD_OUT
        excerpts: list[list[int]] = []
        for at, source in enumerate(sources):
            # An even share of each text, so that one long one does not crowd out the others.
            share = -(-(wanted - len(excerpts)) // (len(sources) - at))
            ids = tokenizer(source, add_special_tokens=False)["input_ids"]
            starts = range(0, len(ids) - self.tokens + 1, self.tokens)
            step = max(1, len(starts) // max(1, share))
            excerpts += [ids[start : start + self.tokens] for start in starts[::step][:share]]
        if len(excerpts) < FEWEST + HELD_OUT:
            raise InvalidArgument(
                Reason.KV_CALIBRATION,
                f"The texts give {len(excerpts)} excerpts of {self.tokens} tokens, and calibration needs at least "
                f"{FEWEST + HELD_OUT}: send more text, or lower document_tokens.",
                metadata={"excerpts": len(excerpts)},
            )
        return excerpts[:wanted]


def _sources(texts: str) -> list[str]:
    """The texts of a JSONL, or the whole as one text if a line of it is not JSON."""
    found: list[str] = []
    for number, line in enumerate(texts.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json_input.decode(line, max_bytes=_LONGEST_LINE)
        except json_input.InvalidJson as error:
            if isinstance(error, json_input.JsonOutOfLimits) and line.lstrip().startswith("{"):
                raise _bad_line(number, error.problem) from None
            return [texts]
        if not isinstance(value, dict) or not isinstance(value.get("text"), str):
            raise _bad_line(number, 'it must be an object with a "text" field that is a string')
        found.append(value["text"])
    return found


def _bad_line(number: int, problem: str) -> InvalidArgument:
    return InvalidArgument(
        Reason.KV_CALIBRATION,
        f"Line {number} of the sample-text JSONL cannot be used: {problem}.",
        metadata={"line": number},
    )


def _sample_texts() -> Iterator[str]:
    """The reference manual, and some of the standard library: prose and code."""
    yield "".join(topics[name] for name in sorted(topics))
    library = Path(sysconfig.get_paths()["stdlib"])
    for name in (
        "argparse",
        "datetime",
        "difflib",
        "inspect",
        "logging/__init__",
        "tarfile",
        "typing",
        "zipfile",
    ):
        yield (library / f"{name}.py").read_text(errors="replace")


def calibrate_model(
    record: ModelRecord, samples: Samples, settings: Settings, progress: Progress
) -> tuple[CalibrationProfile, pb.Profile]:
    """Learn a model's profile and measure its levels.

    The model runs in float32 on the installation's device. Caches are kept on disk, one at a time in memory.

    Parameters
    ----------
    record
        The model; its files are checked first.
    samples
        What to learn from.
    settings
        Of the installation: device, threads, where fingerprints are remembered.
    progress
        Called with each stage.

    Returns
    -------
    tuple
        The profile, and the record of it. The caller stores the artefact and fills in its digest and size.

    Raises
    ------
    FailedPrecondition
        MODEL_CHANGED. KV_NOT_FINITE: the model's cache or its predictions are not finite.
    InvalidArgument
        KV_CALIBRATION: too little text.
    Unimplemented
        KV_LAYER_UNSUPPORTED.
    """
    verify(record, settings, progress)
    progress.step(0, 0, "loading the model")
    loaded = load(record, settings.device, "float32", trainable=True, threads=settings.threads)
    texts, held = _held_out(samples.cut(loaded.tokenizer))
    model = loaded.module.requires_grad_(False)  # gradients of the cache alone
    _require_finite(model, texts[0])
    rotary = rotary_of(record)
    sensitivity = measure(
        model, texts[::3], rotary=rotary, continuation=samples.tokens // 4, progress=progress
    )
    with tempfile.TemporaryDirectory(prefix="palimpsest-calibration-") as folder:
        caches = _Caches(Path(folder))
        for done, ids in enumerate(texts):
            progress.step(done, len(texts), "prefilling samples")
            caches.add(_prefill(model, ids))
        profile = calibrate(
            caches,
            rotary=rotary,
            model=record.fingerprint,
            sensitivity=sensitivity,
            group=samples.group,
            progress=progress,
        )
    facts = pb.Profile(
        model=record.model_id,
        model_fingerprint=record.fingerprint,
        group=profile.group,
        calibration_tokens=sum(map(len, texts)),
        levels=_measured(model, profile, held, progress),
        settings_digest=samples.digest,
    )
    facts.create_time.GetCurrentTime()
    return profile, facts


def _held_out(excerpts: list[list[int]]) -> tuple[list[list[int]], list[list[int]]]:
    """Divide excerpts into those to learn from and those to measure on, which come from all over the texts."""
    apart = set(range(0, len(excerpts), len(excerpts) // HELD_OUT)[:HELD_OUT])
    return (
        [excerpt for at, excerpt in enumerate(excerpts) if at not in apart],
        [excerpt for at, excerpt in enumerate(excerpts) if at in apart],
    )


class _Caches:
    """Caches on disk, read again for each pass over them."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0

    def add(self, kv: KeyValues) -> None:
        save_file({"keys": kv.keys, "values": kv.values}, self._folder / f"{self._count}.safetensors")
        self._count += 1

    def __iter__(self) -> Iterator[KeyValues]:
        for number in range(self._count):
            tensors = load_file(self._folder / f"{number}.safetensors")
            yield KeyValues(tensors["keys"], tensors["values"])


@torch.no_grad()
def _prefill(model: PreTrainedModel, ids: Sequence[int]) -> KeyValues:
    batch = torch.tensor([list(ids)], device=model.device)  # [1, tokens]
    kv = from_cache(model(batch, use_cache=True, logits_to_keep=1).past_key_values)
    return KeyValues(kv.keys.bfloat16().cpu(), kv.values.bfloat16().cpu())


@torch.no_grad()
def _require_finite(model: PreTrainedModel, ids: Sequence[int]) -> None:
    """Refuse a model with damaged weights, before minutes are spent on it."""
    output = model(torch.tensor([list(ids)], device=model.device), use_cache=True, logits_to_keep=1)
    kv = from_cache(output.past_key_values)
    if not all(bool(part.isfinite().all()) for part in (kv.keys, kv.values, output.logits)):
        raise FailedPrecondition(
            Reason.KV_NOT_FINITE,
            "The model gives keys, values or predictions that are not finite, so nothing can be calibrated. Check "
            "its weights, and register them again.",
        )


@dataclass
class _Sums:
    """One level's figures, summed over texts."""

    loss: float = 0.0
    top1: float = 0.0
    bits: float = 0.0
    tokens_per_second: float = 0.0


@torch.no_grad()
def _measured(
    model: PreTrainedModel, profile: CalibrationProfile, held: Sequence[Sequence[int]], progress: Progress
) -> list[pb.Profile.Level]:
    """What each level costs on texts the profile has not seen: the last quarter's predictions after the rest."""
    sums = {name: _Sums() for name in profile.levels}
    for done, ids in enumerate(held):
        progress.step(done, len(held), "measuring levels")
        cut = 3 * len(ids) // 4
        kv, rest = _prefill(model, ids[:cut]), ids[cut:]
        exact = _predictions(model, kv, rest)  # [tokens, vocabulary]
        for name, level in sums.items():
            coded = [encode(c, levels=[name], profile=profile)[name] for c in kv.chunks(CHUNK)]
            decode(coded[0], profile=profile)  # warm up
            start = time.perf_counter()
            back = KeyValues.join([decode(data, profile=profile) for data in coded])
            seconds = time.perf_counter() - start
            found = _predictions(model, back, rest)  # [tokens, vocabulary]
            level.loss += float((exact.exp() * (exact - found)).sum(-1).mean())  # KL divergence, nats
            level.top1 += float((exact.argmax(-1) == found.argmax(-1)).float().mean())
            level.bits += 8 * sum(map(len, coded)) / (cut * kv.geometry.values_per_token)
            level.tokens_per_second += cut / seconds
    return [
        pb.Profile.Level(
            level=name,
            loss=max(0.0, level.loss / len(held)),
            top1=level.top1 / len(held),
            bits_per_value=level.bits / len(held),
            decode_tokens_per_second=level.tokens_per_second / len(held),
        )
        for name, level in sums.items()
    ]


def _predictions(model: PreTrainedModel, kv: KeyValues, ids: Sequence[int]) -> torch.Tensor:
    """Log-probabilities of what follows each of some tokens after a cache, float32 ``[tokens, vocabulary]``."""
    device = model.device
    cache = to_cache(KeyValues(kv.keys.float().to(device), kv.values.float().to(device)), model.config)
    batch = torch.tensor([list(ids)], device=device)  # [1, tokens]
    return model(batch, past_key_values=cache).logits[0].log_softmax(-1)
