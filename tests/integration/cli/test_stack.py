"""Stacks of their own: started, found, broken, stopped, and nothing left behind."""

import asyncio
import os
import re
import signal
import ssl
import subprocess
import sys

import httpx
import pytest
import redis
import trustme

from palimpsest import AsyncClient, Client, Tls
from palimpsest.cli.demo.command import Row, Step, run
from palimpsest.cli.output import printing as output
from palimpsest.embedded.local import ensure_running, stop_running
from palimpsest.embedded.probes import accepts, processes_of
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
        told = process.stdout.readline()
        assert told.startswith("Palimpsest serves 127.0.0.1:")
        gateway = re.search(r"http://127\.0\.0\.1:\d+", told)
        assert gateway, told
        assert httpx.get(f"{gateway[0]}/health").json() == {"status": "ok"}
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert nothing_left(own)


@pytest.mark.chaos
def test_a_killed_launcher_leaves_nothing(own):
    ensure_running(own)
    state = running(own.state_dir)
    assert set(state.processes) == {"valkey", "server", "worker", "gateway"}
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
        for name in ("server", "worker", "valkey", "gateway"):
            # Killed while a hint is not yet acknowledged, the broker takes the worker along: kombu cannot give the hint
            # back, and Celery ends. The stack starts the worker again then, but once more than is counted here.
            until(lambda: not broker.exists(f"{own.redis_prefix}celery:unacked"))
            before = {child.name: child.pid for child in stack.status()}
            os.kill(before[name], signal.SIGKILL)
            now = until(lambda n=name, old=before[name]: _pid(stack, n) not in (None, old) and _pid(stack, n))
            assert now
            until(lambda: serving(stack.target), 120)  # it imports torch before it serves
            until(lambda: accepts(stack.gateway.removeprefix("http://")), 120)
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


def test_a_server_that_cannot_start_shows_its_log(own, tmp_path):
    without_tokens = own.model_copy(update={"tokens_file": tmp_path / "missing.json"})
    with pytest.raises(Unavailable, match=r"missing\.json"):
        Stack(without_tokens).start()
    assert nothing_left(own)


def test_a_listener_that_others_reach_in_plain_text_is_refused_at_once(own):
    open_to_all = own.model_copy(update={"listen": "0.0.0.0:0", "insecure": False})
    with pytest.raises(FailedPrecondition, match="Refusing to listen"):
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
        assert [child.name for child in stack.status()] == ["server", "worker", "gateway"]
        # The certificate is localhost's, and the gateway's own address a number.
        health = f"{stack.gateway.replace('127.0.0.1', 'localhost')}/health"
        assert httpx.get(health, verify=ssl.create_default_context(cafile=ca)).json() == {"status": "ok"}
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


@pytest.mark.parametrize(
    ("listen", "said"),
    [
        ("0.0.0.0", "write host:port"),
        ("7600", "write host:port"),
        ("127.0.0.1:http", "write host:port"),
        ("127.0.0.1:70000", "write host:port"),
        ("::1:7600", "write host:port"),
        ("0.0.0.0:0", "Refusing to listen"),
        ("192.0.2.1:0", "Nothing can listen on"),
        ("no-such-host.invalid:0", "Nothing can listen on"),
    ],
)
@pytest.mark.parametrize("how", [["--detach"], []])
def test_an_address_that_cannot_be_used_is_refused_before_anything_starts(own, listen, said, how):
    done = command(own, "up", *how, "--listen", listen)
    assert done.returncode in (2, 5)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (own.state_dir / "logs" / "server.log").exists()


def test_an_address_from_the_environment_is_refused_alike(own):
    environment = os.environ | {"PALIMPSEST_STATE_DIR": str(own.state_dir), "PALIMPSEST_LISTEN": "7600"}
    done = subprocess.run(
        [sys.executable, "-m", "palimpsest.cli", "up", "-d"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "write host:port" in done.stderr


@pytest.mark.parametrize(
    "words", [["up"], ["up", "-d"], ["demo", "--no-install"], ["down"], ["models", "list"]]
)
@pytest.mark.parametrize("below", ["", "state"])
def test_a_file_where_the_state_folder_should_be_is_named(own, tmp_path, words, below):
    file = tmp_path / "file"
    file.write_text("mine")
    state = file / below if below else file
    named = [*words, "--state-dir", str(state)] if words != ["models", "list"] else words
    done = command(own.model_copy(update={"state_dir": state}), *named)
    assert "Traceback" not in done.stderr
    if words == ["down"]:
        assert "No stack runs on" in done.stdout
    else:
        assert done.returncode == 2, done.stderr
        assert f"{file} is not a folder" in done.stderr.replace("\n", " ")
    assert file.read_text() == "mine"


def test_another_address_than_the_one_that_is_served_is_refused(own):
    assert command(own, "up", "--detach").returncode == 0
    target = running(own.state_dir).target
    assert command(own, "up", "--detach", "--listen", target).returncode == 0
    assert command(own, "up", "--detach", "--listen", "127.0.0.1:0").returncode == 0
    other = command(own, "up", "--detach", "--listen", "127.0.0.1:9")
    assert other.returncode == 5
    assert f"serves {target}, not 127.0.0.1:9" in other.stderr
    assert command(own, "down").returncode == 0
