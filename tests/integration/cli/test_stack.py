"""Stacks of their own: started, found, broken, stopped, and nothing left behind."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest
import redis
import trustme

from palimpsest import AsyncClient, Client, Tls
from palimpsest.cli.demo.command import Row, Step, run
from palimpsest.cli.output import printing as output
from palimpsest.embedded.local import ensure_running, stop_running
from palimpsest.embedded.probes import processes_of
from palimpsest.embedded.stack import Stack
from palimpsest.embedded.state import is_locked, running
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.errors import FailedPrecondition, Unavailable
from palimpsest.rpc.health import serving
from palimpsest.settings import Settings
from tests.waiting import until


@pytest.fixture
def own(tmp_path):
    """Settings of a stack of the test's own; whatever is left of it is ended."""
    settings = Settings(
        state_dir=tmp_path / "state", redis_url="", listen="127.0.0.1:0", threads=1, drain_seconds=0.5
    )
    yield settings
    for pid in processes_of(settings.state_dir):
        os.kill(pid, signal.SIGKILL)


def command(settings, *words):
    environment = os.environ | {
        "PALIMPSEST_STATE_DIR": str(settings.state_dir),
        "PALIMPSEST_LISTEN": "127.0.0.1:0",
        "PALIMPSEST_DRAIN_SECONDS": "0.5",
        "PALIMPSEST_REDIS_URL": "",
        "PALIMPSEST_SERVER": "",
    }
    return subprocess.run(
        [sys.executable, "-m", "palimpsest.cli", *words], env=environment, capture_output=True, text=True
    )


def nothing_left(settings):
    return until(lambda: not is_locked(settings.state_dir) and not processes_of(settings.state_dir))


def test_up_health_up_again_down(own):
    assert command(own, "health").returncode == 4
    first = command(own, "up", "--detach")
    assert first.returncode == 0, first.stderr
    target = running(own.state_dir).target
    assert target in first.stdout
    assert command(own, "health").returncode == 0
    assert target in command(own, "up", "--detach").stdout
    refused = command(own, "up")
    assert refused.returncode == 5
    assert "STACK_RUNNING" in refused.stderr
    down = command(own, "down")
    assert (down.returncode, down.stdout) == (0, f"Stopped {target}.\n")
    assert nothing_left(own)
    assert "No stack runs" in command(own, "down").stdout


def test_the_foreground_ends_with_its_signal(own):
    environment = os.environ | {
        "PALIMPSEST_STATE_DIR": str(own.state_dir),
        "PALIMPSEST_LISTEN": "127.0.0.1:0",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "palimpsest.cli", "up"], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline().startswith("Palimpsest serves 127.0.0.1:")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert nothing_left(own)


@pytest.mark.chaos
def test_a_killed_launcher_leaves_nothing(own):
    ensure_running(own)
    state = running(own.state_dir)
    assert len(state.processes) == 3
    os.kill(state.pid, signal.SIGKILL)
    assert nothing_left(own)
    # And the next start finds its way.
    with Stack(own) as stack:
        assert serving(stack.target)
    assert nothing_left(own)


async def test_local_clients_share_one_stack(own):
    blocking = [asyncio.to_thread(Client.local, own) for _ in range(2)]
    *clients, twin = await asyncio.gather(*blocking, AsyncClient.local(own))
    assert len({client.target for client in (*clients, twin)}) == 1
    artifact = await twin.artifacts.upload(b"shared")
    assert clients[1].artifacts.read_bytes(artifact.digest) == b"shared"
    for client in clients:
        client.close()
    await twin.close()
    stop_running(own)
    assert nothing_left(own)


@pytest.mark.chaos
def test_children_that_die_come_back_with_what_they_knew(own):
    with Stack(own) as stack, Client(stack.target) as client:
        artifact = client.artifacts.upload(b"kept")
        done = client.artifacts.collect_garbage(dry_run=True)
        done.result(timeout=60)
        broker = redis.Redis.from_url(ValkeyServer(own.state_dir / "valkey").url)
        for name in ("server", "worker", "valkey"):
            # Killed while a hint is not yet acknowledged, the broker takes the worker along: kombu cannot give the hint
            # back, and Celery ends. The stack starts the worker again then, but once more than is counted here.
            until(lambda: not broker.exists(f"{own.redis_prefix}celery:unacked"))
            before = {child.name: child.pid for child in stack.status()}
            os.kill(before[name], signal.SIGKILL)
            now = until(lambda n=name, old=before[name]: _pid(stack, n) not in (None, old) and _pid(stack, n))
            assert now
            until(lambda: serving(stack.target), 120)  # it imports torch before it serves
            assert client.artifacts.read_bytes(artifact.digest) == b"kept"
            assert client.job(done.name).done()
            client.artifacts.collect_garbage(dry_run=True).result(timeout=60)
        assert all(child.restarts == 1 for child in stack.status())
    assert nothing_left(own)


def _pid(stack, name):
    return next(child.pid for child in stack.status() if child.name == name)


def test_a_programs_own_stack_is_not_ours_to_stop(own, stack):
    with pytest.raises(FailedPrecondition, match="Something else listens"):
        Stack(own, listen=stack.target).start()
    with Stack(own.model_copy(update={"listen": stack.target})) as other:
        assert other.target != stack.target
        with pytest.raises(FailedPrecondition, match="end that process"):
            stop_running(own)
        with pytest.raises(FailedPrecondition, match="already runs"):
            Stack(own).start()
    assert nothing_left(own)


def test_a_server_that_cannot_start_shows_its_log(own):
    open_to_all = own.model_copy(update={"listen": "0.0.0.0:0", "insecure": False})
    with pytest.raises(Unavailable, match="Refusing to listen"):
        Stack(open_to_all).start()
    assert nothing_left(own)


def test_a_stack_with_tls_on_a_valkey_of_somebody_elses(own, valkey, redis_prefix, tmp_path):
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    certificate, key, ca = (tmp_path / name for name in ("certificate", "key", "ca"))
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(ca)
    changed = {
        "listen": "localhost:0",
        "tls_certificate": certificate,
        "tls_key": key,
        "redis_url": valkey.url,
        "redis_prefix": redis_prefix,
    }
    with Stack(own.model_copy(update=changed)) as stack:
        assert [child.name for child in stack.status()] == ["server", "worker"]
        with Client(stack.target, tls=Tls(ca=ca)) as client:
            assert client.artifacts.collect_garbage(dry_run=True).result(timeout=60).deleted == 0
    assert nothing_left(own)


def test_the_tour_tells_what_happened_and_leaves_nothing(own, tmp_path, capsys):
    def look(context):
        return [Row("looked around", f"{len(context.client.models.list_models().models)} models")]

    output.console().print(run(own, tmp_path, [Step("look", look)]))
    told = capsys.readouterr().out
    assert "looked around" in told
    assert "0 models" in told
    assert "0 processes left" in told
