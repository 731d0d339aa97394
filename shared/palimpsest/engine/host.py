"""Engines by model id: loaded on demand, one at a time; the least recently used idle engine makes room."""

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palimpsest.errors import Reason, ResourceExhausted
from palimpsest.models import ModelCatalogue, ModelRecord, verify
from palimpsest.progress import NullProgress, Progress
from palimpsest.settings import Settings

if TYPE_CHECKING:
    from palimpsest.engine.engine import Engine
    from palimpsest.jobs import JobContext
    from palimpsest.lm import TokenBytes
    from palimpsest.lm.constraints.grammars import GrammarCompiler
    from palimpsest.lm.model import LanguageModel


@dataclass(eq=False)
class Hosted:
    """A model in memory, with its engine."""

    record: ModelRecord
    engine: "Engine[LanguageModel]"
    users: int = 0

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self.engine.model.tokenizer

    @cached_property
    def token_bytes(self) -> "TokenBytes":
        """The bytes of each token."""
        from palimpsest.lm import TokenBytes

        return TokenBytes(self.tokenizer)

    @cached_property
    def grammars(self) -> "GrammarCompiler":
        """Compiles what structured texts must be."""
        from palimpsest.lm.constraints.grammars import GrammarCompiler

        model = self.engine.model
        return GrammarCompiler(self.tokenizer, model.limits.vocab_size, frozenset(model.eos_ids))


class EngineHost:
    """The engines of one process.

    Parameters
    ----------
    settings
        Device, dtype, cache memory and how many models are held.
    models
        The catalogue.
    """

    def __init__(self, settings: Settings, models: ModelCatalogue) -> None:
        _keep_compiled_code_in(settings.state_dir)
        self._settings, self._models = settings, models
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._hosted: OrderedDict[str, Hosted] = OrderedDict()

    def acquire(self, model_id: str, progress: Progress | None = None) -> Hosted:
        """Return the engine for a model; blocks while it loads the model first. Return it with :meth:`release`.

        Raises
        ------
        NotFound
            MODEL_NOT_FOUND.
        FailedPrecondition
            MODEL_CHANGED: the files are not what was registered.
        ResourceExhausted
            ENGINE_MEMORY_FULL: all models that may be held in memory are in use.
        """
        record = self._models.get(model_id)
        hosted = self._find(record)
        if hosted is not None:
            return hosted
        with self._loading:
            hosted = self._find(record)
            if hosted is not None:
                return hosted
            verify(record, self._settings, progress or NullProgress())
            self._make_room(model_id)
            hosted = Hosted(record, self._load(record), users=1)
            with self._lock:
                self._hosted[model_id] = hosted
            return hosted

    def release(self, hosted: Hosted) -> None:
        """Release one use of an engine."""
        with self._lock:
            hosted.users -= 1

    @contextmanager
    def using(self, model_id: str, progress: Progress | None = None) -> Iterator[Hosted]:
        """Acquire for the duration of a block."""
        hosted = self.acquire(model_id, progress)
        try:
            yield hosted
        finally:
            self.release(hosted)

    def hosted(self) -> list[Hosted]:
        """Models in memory, least recently used first."""
        with self._lock:
            return list(self._hosted.values())

    def close(self) -> None:
        """Stop all engines."""
        with self._lock:
            hosted = list(self._hosted.values())
            self._hosted.clear()
        for each in hosted:
            each.engine.close()

    def _find(self, record: ModelRecord) -> Hosted | None:
        with self._lock:
            hosted = self._hosted.get(record.model_id)
            if hosted is None or hosted.engine.failed or hosted.record.fingerprint != record.fingerprint:
                return None
            self._hosted.move_to_end(record.model_id)
            hosted.users += 1
            return hosted

    def _make_room(self, model_id: str) -> None:
        """Close an engine that can no longer serve, and idle ones while there are too many."""
        with self._lock:
            gone = [hosted for held_id, hosted in self._hosted.items() if held_id == model_id]
            self._hosted.pop(model_id, None)
            while len(self._hosted) >= self._settings.engine_max_models:
                idle = next((held_id for held_id, hosted in self._hosted.items() if not hosted.users), None)
                if idle is None:
                    names = ", ".join(self._hosted)
                    raise ResourceExhausted(
                        Reason.ENGINE_MEMORY_FULL,
                        f"All {len(self._hosted)} models that may be held in memory are in use ({names}). Wait, or "
                        "raise PALIMPSEST_ENGINE_MAX_MODELS.",
                        retry_after=5.0,
                    )
                gone.append(self._hosted.pop(idle))
        for hosted in gone:
            hosted.engine.close()

    def _load(self, record: ModelRecord) -> "Engine[LanguageModel]":
        from palimpsest.engine.engine import Engine
        from palimpsest.lm import load

        s = self._settings
        model = load(record, s.device, s.dtype, threads=s.threads, cache_bytes=s.engine_cache_bytes)
        return Engine(model, s.engine_max_running, s.engine_queue_limit)


def _keep_compiled_code_in(folder: Path) -> None:
    """Keep numba's compiled code in our state folder where the source folder is read-only, as in an image."""
    package = Path(__file__).parents[1] / "lm" / "cpu"
    if not os.access(package, os.W_OK):
        os.environ.setdefault("NUMBA_CACHE_DIR", str(folder / "compiled"))


_hosts: dict[str, EngineHost] = {}
_hosts_lock = threading.Lock()


def worker_host(job: "JobContext") -> EngineHost:
    """Return the engines of this worker process, kept from one job to the next, whatever room it is of."""
    settings = job.resources.settings
    with _hosts_lock:
        key = settings.model_dump_json()
        if key not in _hosts:
            for host in _hosts.values():
                host.close()
            _hosts.clear()
            _hosts[key] = EngineHost(settings, job.resources.models)
        return _hosts[key]
