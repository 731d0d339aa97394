"""Whether the parts of a stack do their work, seen from outside."""

import contextlib
import errno
import os
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.rpc.health import serving
from palimpsest.settings import GatewaySettings, Settings

if TYPE_CHECKING:
    from palimpsest.jobs.replies import QueueStats

_LAST_PORT = 65535


def answers(target: str, settings: Settings, *, timeout: float = 1.0) -> bool:
    """Return whether the stack's own server answers at target.

    Plain, it has to report SERVING. With TLS a handshake has to succeed, whatever name the certificate is
    for: the certificate speaks to other machines, and a server listens only once its rooms have started.
    """
    if settings.tls_certificate is None:
        return serving(target, timeout=timeout)
    host, _, port = target.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout) as connection:
            context.wrap_socket(connection).close()
    except OSError:
        return False
    return True


def worker_consumes(redis_url: str) -> bool:
    """Return whether some worker waits for hints: a client of this Redis that is blocked in BRPOP.

    That is what Celery's consumer does whenever it has nothing to do, and nothing else of ours does. It
    says more than a living process: a worker that lost its connection, or is still importing, is not there.
    """
    import redis

    with contextlib.suppress(redis.RedisError, OSError):
        connection = redis.Redis.from_url(redis_url, socket_timeout=2.0)
        try:
            return any(str(entry.get("cmd", "")).startswith("brpop") for entry in connection.client_list())
        finally:
            connection.close()
    return False


def queues_of(settings: Settings) -> "dict[str, QueueStats]":
    """Return the state of every queue that jobs are sent to.

    Raises
    ------
    Unavailable
        JOB_STORE_UNAVAILABLE.
    """
    import redis

    from palimpsest.jobs import JobStore

    with redis.Redis.from_url(settings.redis_url, socket_timeout=2.0, socket_connect_timeout=2.0) as client:
        return JobStore(client, settings).stats(settings.queues).queues


def usable_address(settings: Settings, listen: str | None) -> str:
    """Return the address a stack listens on: listen, which must be free; else the settings', or another port of it.

    Raises
    ------
    InvalidArgument, FailedPrecondition
        As in :func:`free_address`; or LISTENER_INSECURE: other machines can reach it, in plain text. The server would
        refuse the same, once it has started.
    """
    from palimpsest.rpc.tls import require_safe_listener

    found = free_address(listen or settings.listen, exact=listen is not None)
    if settings.tls_certificate is None:
        require_safe_listener(settings.model_copy(update={"listen": found}))
    return found


def gateway_address(settings: Settings) -> str:
    """Return the address that a stack's gateway listens on: PALIMPSEST_GATEWAY_LISTEN, or another port of it.

    Empty where that is. Where the server takes any free port (``:0``), the gateway does, too. Raises as
    :func:`usable_address`.
    """
    wanted = GatewaySettings().listen
    if wanted and settings.listen.endswith(":0"):
        wanted = f"{wanted.rpartition(':')[0]}:0"
    return usable_address(settings.model_copy(update={"listen": wanted}), None) if wanted else ""


def accepts(target: str, *, timeout: float = 1.0) -> bool:
    """Return whether something listens at ``host:port``."""
    host, _, port = target.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), timeout):
        return True
    return False


def free_address(listen: str, *, exact: bool) -> str:
    """Return listen if the address is free, else the same host with a free port.

    Raises
    ------
    InvalidArgument
        ADDRESS_INVALID: it is not ``host:port``, or this machine cannot listen there.
    FailedPrecondition
        The address is taken and exact forbids another.
    """
    if listen.startswith("unix:"):
        return listen
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > _LAST_PORT or (":" in host and host[0] != "["):
        raise InvalidArgument(
            Reason.ADDRESS_INVALID,
            f"{listen!r} is no address to listen on: write host:port, such as 127.0.0.1:7600 (port 0 for a free "
            "one), or unix:/path.",
        )
    for candidate in (int(port), 0):
        try:
            with _bound(host.strip("[]"), candidate) as bound:
                return f"{host}:{bound.getsockname()[1]}"
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise InvalidArgument(
                    Reason.ADDRESS_INVALID, f"Nothing can listen on {listen} here: {error.strerror}."
                ) from None
        if exact:
            break
    raise FailedPrecondition(
        Reason.ADDRESS_IN_USE, f"Something else listens on {listen}; name another address with --listen."
    )


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


def tail(log: Path, lines: int = 12) -> str:
    """Return the last lines of a log; nothing if there is none."""
    with contextlib.suppress(OSError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    return ""


def processes_of(state_dir: Path) -> list[int]:
    """Return ids of processes that work on a state directory, other than this one; Linux only, else empty."""
    marks = (f"PALIMPSEST_STATE_DIR={state_dir}\0".encode(), f"{state_dir}/".encode())
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(entry.name) == os.getpid() or not (entry / "cmdline").read_bytes():
                continue  # without a command line: a zombie, which has let go of everything
            environment = (entry / "environ").read_bytes() + b"\0"
            if marks[0] in environment or marks[1] in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found
