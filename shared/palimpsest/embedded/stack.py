"""The whole of Palimpsest as child processes of this one: Valkey, a server with every room, a worker, the gateway."""

import atexit
import os
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from palimpsest.disk import disk_full, is_full, room_for
from palimpsest.embedded.children import Child, PythonChild, Restarts, ValkeyChild
from palimpsest.embedded.environment import settings_environment
from palimpsest.embedded.installation import services_root
from palimpsest.embedded.probes import (
    accepts,
    answers,
    gateway_address,
    tail,
    usable_address,
    worker_consumes,
)
from palimpsest.embedded.state import Owner, StackLock, StackState
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.errors import PalimpsestError, Reason, Unavailable
from palimpsest.rpc.channel import client_target
from palimpsest.settings import Settings

_TICK = 0.1
_DEATHS_BEFORE_READY = 3


@dataclass(frozen=True)
class ChildStatus:
    """One child as a person wants to see it."""

    name: str
    pid: int | None
    restarts: int
    log: str


class Stack:
    """Starts the processes, keeps them running, and stops them in order.

    A child that dies is started again, with growing pauses. If this process ends without stopping the
    stack, be it by ``kill -9``, the kernel ends the children (on Linux). Everything the stack keeps is under
    ``settings.state_dir``, so the next start goes on with the same jobs, artefacts and models.

    Parameters
    ----------
    settings
        With ``redis_url`` set, that server is used and no Valkey is started.
    listen
        Address the server must get. Otherwise ``settings.listen``, or a free port if that one is taken.
    owner
        See :class:`~palimpsest.embedded.state.StackState`.

    Attributes
    ----------
    target
        Address for clients.
    gateway
        URL of the HTTP gateway, such as ``http://127.0.0.1:7680``; empty where PALIMPSEST_GATEWAY_LISTEN is.
    """

    def __init__(
        self, settings: Settings | None = None, *, listen: str | None = None, owner: Owner = "program"
    ) -> None:
        settings = settings or Settings()
        self.settings = settings.model_copy(update={"state_dir": settings.state_dir.absolute()})
        self.logs = self.settings.state_dir / "logs"
        self.target = self.gateway = ""
        self._gateway_listen = ""
        self._listen = listen
        self._owner: Owner = owner
        self._lock = StackLock(self.settings.state_dir)
        self._children: list[tuple[Child, Restarts]] = []
        self._redis_url = self.settings.redis_url
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self._ready = False
        self._failure: Exception | None = None
        self._ending = threading.Event()
        self._untold = False

    @property
    def ready(self) -> bool:
        """The server has reported SERVING, a worker has waited for work and the gateway listened, since the start."""
        return self._ready

    @property
    def failure(self) -> Exception | None:
        """Why the stack gave up, if it did: its children have been stopped."""
        return self._failure

    def start(self, timeout: float = 120.0) -> Self:
        """Start everything, unless that was done; return once the server serves and the worker waits for work.

        Raises
        ------
        FailedPrecondition
            Another stack runs on the same state directory, or the address asked for is taken.
        Unavailable
            A part did not get ready; the message names its log and shows its end.
        """
        if self._thread is not None:
            return self
        try:
            with room_for(f"the stack in {self.settings.state_dir}"):
                self._lock.acquire()
                self._plan()
            self._ending.clear()
            # One thread starts every child and lives until they are stopped: the kernel's death signal is
            # tied to the thread that started a process.
            self._thread = threading.Thread(target=self._supervise, name="palimpsest-stack", daemon=True)
            self._thread.start()
            atexit.register(self.stop)
            with self._changed:
                settled = self._changed.wait_for(lambda: self._ready or self._failure is not None, timeout)
            if self._failure is not None:
                raise self._failure
            if not settled:
                raise self._not_ready(f"The stack was not ready within {timeout:g} s.")
        except BaseException as error:
            self.stop()
            if isinstance(error, Exception):
                self._failure = error
            raise
        return self

    def stop(self) -> None:
        """Let the worker finish or hand back its job, drain the server, flush Valkey; then let go."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._lock.release()
        atexit.unregister(self.stop)

    def status(self) -> list[ChildStatus]:
        """Return the children as they are now."""
        return [ChildStatus(c.name, c.pid, r.count, str(c.log)) for c, r in self._children]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _plan(self) -> None:
        settings = self.settings
        root = services_root()
        self.logs.mkdir(parents=True, exist_ok=True)
        listen = usable_address(settings, self._listen)
        self.target = client_target(listen)
        self._gateway_listen = gateway_address(settings)
        if self._gateway_listen:
            scheme = "https" if settings.tls_certificate else "http"
            self.gateway = f"{scheme}://{client_target(self._gateway_listen)}"
        children: list[Child] = []
        if not settings.redis_url:
            valkey = ValkeyServer(settings.state_dir / "valkey")
            self._redis_url = valkey.url
            children.append(ValkeyChild(valkey))
        environment = settings_environment(settings) | {
            "PALIMPSEST_LISTEN": listen,
            "PALIMPSEST_REDIS_URL": self._redis_url,
        }
        # Its metrics are at its own address.
        http = environment | {
            "PALIMPSEST_GATEWAY_LISTEN": self._gateway_listen,
            "PALIMPSEST_METRICS_LISTEN": "",
        }
        plans = [
            ("server", "services", environment, settings.drain_seconds + 10.0),
            ("worker", "services.worker", environment, settings.cancel_grace_seconds + 15.0),
            ("gateway", "services.gateway", http, settings.drain_seconds + 10.0),
        ]
        for name, module, variables, grace in plans[: 3 if self._gateway_listen else 2]:
            log = self.logs / f"{name}.log"
            children.append(PythonChild(name, module, root=root, environment=variables, log=log, grace=grace))
        self._children = [(child, Restarts()) for child in children]
        self._ready, self._failure = False, None

    def _supervise(self) -> None:
        try:
            for child, _ in self._children:
                child.start()
            self._write_state()
            while not self._ending.wait(_TICK):
                self._restart_dead()
                if not self._ready and self._failure is None:
                    self._settle()
                if self._untold:
                    self._publish()
        except Exception as error:
            full = is_full(error)
            self._fail(disk_full(f"the stack in {self.settings.state_dir}") if full else error)
        finally:
            # Backwards: the worker hands back its job while the server and Valkey are still there.
            for child, _ in reversed(self._children):
                child.stop()

    def _restart_dead(self) -> None:
        for child, restarts in self._children:
            if child.pid is None and restarts.due():
                if not self._ready and restarts.count >= _DEATHS_BEFORE_READY:
                    self._fail(self._not_ready(f"The {child.name} keeps ending while it starts.", child))
                    return
                try:
                    child.start()
                except (PalimpsestError, OSError):
                    continue  # due again, after a longer pause
                self._publish()

    def _settle(self) -> None:
        http = not self._gateway_listen or accepts(client_target(self._gateway_listen))
        if http and answers(self.target, self.settings) and worker_consumes(self._redis_url):
            with self._changed:
                self._ready = True
                self._changed.notify_all()
            self._publish()

    def _fail(self, error: Exception) -> None:
        with self._changed:
            self._failure = error
            self._changed.notify_all()

    def _publish(self) -> None:
        """Tell others how the stack is now; where the disk has no room for it, again and again until it has."""
        try:
            self._write_state()
        except OSError as error:
            if not is_full(error):
                raise
            self._untold = True
        else:
            self._untold = False

    def _write_state(self) -> None:
        pids = {child.name: child.pid for child, _ in self._children if child.pid is not None}
        StackState(
            pid=os.getpid(),
            owner=self._owner,
            target=self.target,
            gateway=self.gateway,
            ready=self._ready,
            logs=str(self.logs),
            processes=pids,
        ).write(self.settings.state_dir)

    def _not_ready(self, what: str, child: Child | None = None) -> Unavailable:
        guilty = child or next((c for c, _ in self._children if c.pid is None), self._children[-1][0])
        return Unavailable(
            Reason.STACK_NOT_READY, f"{what} See {guilty.log}, which ends with:\n{tail(guilty.log)}"
        )
