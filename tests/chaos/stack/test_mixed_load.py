"""Calls of every room at once while processes are killed: each call ends, and what was acknowledged is there."""

import collections
import contextlib
import json
import os
import random
import signal
from pathlib import Path

import pytest

from palimpsest import Client
from palimpsest.embedded.stack import Stack
from palimpsest.settings import Settings
from tests.chaos.stack.load import BLOCKING, Callers, Nouns, Seen
from tests.waiting import until

KILLS = int(os.environ.get("PALIMPSEST_CHAOS_KILLS", "4"))
SEED = int(os.environ.get("PALIMPSEST_CHAOS_SEED", "0"))
LINES = 5
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300 + 60 * KILLS)]


def prepared(client: Client, tiny_model: Path) -> Nouns:
    """Something in every room."""
    client.models.register_model(model_id="chaos", source=str(tiny_model)).result(timeout=60)
    corpus = client.datastore.create_corpus(corpus_id="chaos", model="chaos", encoder="hashed-words")
    made = client.codec.create_context(
        context_id="chaos", model="chaos", text="the quick brown fox jumps " * 40
    )
    lines = "".join(json.dumps({"prompt": f"line {n}", "max_tokens": 20}) + "\n" for n in range(LINES))
    uploaded = client.artifacts.upload(lines.encode(), media_type="application/jsonl")
    return Nouns("chaos", corpus.name, made.result(timeout=120).name, uploaded.digest)


def disturb(stack: Stack, seen: Seen, dice: random.Random) -> None:
    """Kill a process in the middle of it: after some more calls have ended, which while nothing serves are few."""
    enough = len(seen.ended) + dice.randint(1, 200)
    until(lambda: len(seen.ended) >= enough, timeout=60)
    victim = dice.choice(("server", "worker", "valkey"))
    pid = until(lambda: {child.name: child.pid for child in stack.status()}[victim], timeout=60)
    os.killpg(pid, signal.SIGKILL)


def check_that_all_work(seen: Seen) -> None:
    """Wait until every operation has succeeded once more."""
    mark, wanted = len(seen.ended), {operation.__name__ for operation in BLOCKING}

    def lost() -> set[str]:
        return wanted - {name for name, _, error in seen.ended[mark:] if error is None}

    with contextlib.suppress(AssertionError):
        until(lambda: not lost(), timeout=90)
    assert not lost(), [each for each in seen.ended if each[0] in lost()][-3:]


def check_what_was_promised(client: Client, corpus: str, seen: Seen) -> None:
    """Whatever a server has acknowledged is there, whole and once."""
    for digest, data in seen.artifacts.items():
        assert client.artifacts.read_bytes(digest) == data
    for name, text in seen.documents.items():
        assert client.datastore.read(corpus, name) == text
    for request, name in seen.jobs.items():
        result = client.job(name).result(timeout=180)
        assert (result.succeeded, result.failed) == (LINES, 0), request
    assert len(set(seen.jobs.values())) == len(seen.jobs)


def test_every_call_ends_and_nothing_acknowledged_is_lost(tmp_path: Path, tiny_model: Path, record_property):
    settings = Settings(
        state_dir=tmp_path, redis_url="", listen="127.0.0.1:0", threads=1, drain_seconds=1.0
    ).model_copy(update={"lease_seconds": 8.0, "job_max_attempts": 4 + 2 * KILLS})
    dice = random.Random(SEED)
    with Stack(settings) as stack, Client(stack.target) as client:
        nouns = prepared(client, tiny_model)
        callers = Callers(stack.target, nouns, SEED)
        callers.start()
        try:
            for _ in range(KILLS):
                disturb(stack, callers.seen, dice)
            check_that_all_work(callers.seen)
        finally:
            hanging = callers.stop()
        seen = callers.seen
        failed = collections.Counter(type(error).__name__ for _, _, error in seen.ended if error)
        record_property("calls", len(seen.ended))
        record_property("failed calls", dict(failed))
        assert hanging == []
        assert seen.late() == []
        assert seen.wrong() == []
        check_what_was_promised(client, nouns.corpus, seen)
