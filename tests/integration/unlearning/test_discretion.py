"""Lines that cannot be used, sent to a real stack: no word of them is in an error, a log, a record or an audit line."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from palimpsest import Client
from palimpsest.embedded.stack import Stack
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.errors import InvalidArgument, Reason
from palimpsest.settings import Settings
from services.unlearning.absence import search_folder
from services.unlearning.absence_in_redis import search_redis
from services.unlearning.patterns import Secrets
from tests import canaries
from tests.integration.unlearning import data


@dataclass(frozen=True)
class Installation:
    client: Client
    settings: Settings


@pytest.fixture(scope="module")
def installation(
    valkey: ValkeyServer, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    settings = Settings(
        state_dir=tmp_path_factory.mktemp("discretion"),
        redis_url=valkey.url,
        redis_prefix=f"test-{uuid.uuid4().hex[:12]}:",
        listen="127.0.0.1:0",
        threads=1,
        drain_seconds=1.0,
        dtype="float32",
        log_level="debug",
    )
    with Stack(settings) as running, Client(running.target) as client:
        client.models.register_model(model_id="base", source=str(tiny_model)).result(120)
        yield Installation(client, settings)


def test_nothing_of_a_line_that_is_refused_is_anywhere(installation: Installation):
    client = installation.client
    retain = client.artifacts.upload(data.RETAIN).digest
    told: list[str] = []
    for line in canaries.OF_REMOVALS.values():
        forget = client.artifacts.upload(data.lines(data.secret(0)) + line).digest
        plan = {
            "model": "base",
            "new_model": "clean",
            "forget": forget,
            "retain": retain,
            "algorithm": "ga_gdr",
        }
        for call in (client.unlearning.preview_removal, client.unlearning.create_removal_request):
            with pytest.raises(InvalidArgument) as refused:
                call(plan=plan)
            assert refused.value.reason == Reason.DATASET_LINE_INVALID
            told.append(f"{refused.value} {refused.value.metadata} {refused.value.violations}")
    for line in canaries.OF_TRAINING.values():
        train = client.artifacts.upload(data.lines(data.secret(0)) + line).digest
        job = client.models.fine_tune(base="base", model_id="taught", train=train, steps=1)
        with pytest.raises(InvalidArgument) as refused:
            job.result(120)
        told.append(f"{refused.value} {refused.value.metadata}")
    assert not [each for each in told if any(word in each for word in canaries.SHOWN)]

    secrets = Secrets(canaries.SHOWN)
    state = installation.settings.state_dir
    logs = [path.read_text() for path in (state / "logs").iterdir()]
    assert any("models.fine_tune" in log for log in logs), "the worker's log was looked at"
    files = search_folder(state, secrets, skip=[state / "artifacts"])
    assert not files.found, files.found
    keys = search_redis(redis.Redis.from_url(installation.settings.redis_url), secrets)
    assert not keys.found, keys.found
