"""A codec server in a process of its own, with the sample model, its profile and one stored context."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import redis

from palimpsest import Client
from palimpsest.api.codec.v1 import codec_pb2 as pb
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.errors import PalimpsestError
from palimpsest.jobs import WorkerResources
from palimpsest.kv import LEVELS, KeyValues
from palimpsest.models import register
from palimpsest.progress import NullProgress
from palimpsest.settings import Settings
from services.codec.profiles import PROFILE_TYPE, ProfileCatalogue
from tests.benchmarks.codec.models import PIECE, PREFIX, Sample
from tests.benchmarks.codec.quality import Mean
from tests.benchmarks.figures import ROOT
from tests.waiting import until

MODEL, CONTEXT = "sample", "document"


@contextmanager
def codec_server(
    sample: Sample,
    ids: Sequence[int],
    kv: KeyValues,
    means: dict[str, Mean],
    seconds: dict[str, float],
    folder: Path,
) -> Iterator[tuple[str, str]]:
    """Serve a context; gives the server's address and the context's name."""
    valkey = ValkeyServer(folder / "valkey").start()
    settings = Settings(state_dir=folder, redis_url=valkey.url, listen=_free())
    resources = WorkerResources(settings, redis.Redis.from_url(valkey.url))
    register(MODEL, str(sample.path), resources.models, settings, NullProgress())
    _calibrated(sample, resources, means, seconds)
    environment = {
        **os.environ,
        "PALIMPSEST_STATE_DIR": str(folder),
        "PALIMPSEST_REDIS_URL": valkey.url,
        "PALIMPSEST_LISTEN": settings.listen,
        "PALIMPSEST_LOG_LEVEL": "WARNING",
    }
    command = [sys.executable, "-m", "services", "registry", "codec"]
    server = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        with Client(settings.listen) as client:
            _wait(client, server)
            coding = {"chunk_tokens": PIECE, "levels": list(LEVELS)}
            stored = client.codec.put(
                model=MODEL, tokens=ids, kv=kv, context_id=CONTEXT, coding=coding, timeout=300
            )
        yield settings.listen, stored.name
    finally:
        server.terminate()
        server.wait(30)
        valkey.stop()


def _free() -> str:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def _calibrated(
    sample: Sample, resources: WorkerResources, means: dict[str, Mean], seconds: dict[str, float]
) -> None:
    """Store the profile as the model's, with what was measured of its levels."""
    info = resources.artifacts.put_bytes(sample.profile.to_bytes(), PROFILE_TYPE)
    record = resources.models.get(MODEL)
    profile = pb.Profile(
        model=MODEL,
        model_fingerprint=record.fingerprint,
        artifact=info.digest,
        size_bytes=info.size_bytes,
        group=sample.profile.group,
    )
    for name in LEVELS:
        _, kl, agree = means[f"transform {name}"]
        profile.levels.add(level=name, loss=kl, top1=agree, decode_tokens_per_second=PREFIX / seconds[name])
    profile.create_time.GetCurrentTime()
    prefix = resources.settings.redis_prefix
    ProfileCatalogue(resources.redis, prefix, resources.artifacts).put(profile)


def _wait(client: Client, server: subprocess.Popen) -> None:
    """Wait until the server answers."""

    def answers() -> bool:
        assert server.poll() is None, "the server ended"
        try:
            client.codec.list_contexts()
        except PalimpsestError:
            return False
        return True

    until(answers, timeout=120, interval=0.1)
