"""The server every deployable runs: rooms on one port, with health, reflection and a graceful end."""

import asyncio
import importlib
import signal
from typing import Any, Protocol

import grpc
import structlog
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection

from palimpsest.rpc.audit import AuditLog
from palimpsest.rpc.auth import Authenticator
from palimpsest.rpc.imports import SERVING, import_ahead
from palimpsest.rpc.keepalive import server_keepalive
from palimpsest.rpc.operations import JobsServicer, OperationsServicer
from palimpsest.rpc.pipeline import Pipeline
from palimpsest.rpc.resources import Resources
from palimpsest.rpc.tls import require_safe_listener, server_credentials
from palimpsest.settings import Settings
from palimpsest.telemetry.metrics import serve_metrics

_log = structlog.get_logger(__name__)


class Room(Protocol):
    """What ``services/<room>/__init__.py`` exports as ``ROOM``.

    Attributes
    ----------
    name
        Also its folder's.
    imports
        Modules, and packages as a whole, that its calls need; the server imports them before it serves.
    """

    name: str
    imports: tuple[str, ...]

    async def start(self, resources: Resources) -> list[Any]:
        """Return the servicers to mount."""
        ...

    async def stop(self) -> None:
        """Release what start acquired, after the last call has ended."""
        ...


class Server:
    """Rooms behind one address.

    Parameters
    ----------
    settings
        Address, limits, addresses of Redis and the artefact store.
    rooms
        Mounted in order; the services of jobs and health are always mounted.
    """

    def __init__(self, settings: Settings, rooms: list[Room]) -> None:
        self.settings = settings
        self.rooms = rooms
        self.port = 0
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        self._services: list[str] = []

    async def start(self) -> None:
        """Mount the rooms, listen, and report SERVING.

        Raises
        ------
        FailedPrecondition
            The address is off loopback and neither TLS nor --insecure was asked for.
        Unavailable
            No Redis is configured.
        """
        settings = self.settings
        credentials = server_credentials(settings)
        if credentials is None:
            require_safe_listener(settings)
        needed = [name for room in self.rooms for name in room.imports]
        await asyncio.to_thread(import_ahead, [*SERVING, *needed])
        self.resources = Resources.open(settings)
        self._metrics = serve_metrics(settings)
        self._audit = AuditLog(settings.audit_file or settings.state_dir / "audit.jsonl")
        self._pipeline = Pipeline(settings, Authenticator(settings.tokens_file), self._audit)
        self._server = grpc.aio.server(
            interceptors=[self._pipeline],
            # A backstop above the pipeline's own limits, whose answers say when to come back.
            maximum_concurrent_rpcs=2 * (settings.max_concurrent_rpcs + settings.reserved_rpcs) + 16,
            options=[("grpc.so_reuseport", 0), *server_keepalive()],
        )
        # On every server, so that a job can be followed where it was started.
        servicers: list[Any] = [OperationsServicer(self.resources.jobs), JobsServicer(self.resources.jobs)]
        for room in self.rooms:
            servicers += await room.start(self.resources)
        for servicer in servicers:
            self._services.append(_mount(servicer, self._server))
        _mount(self._health, self._server)
        if settings.reflection:
            names = [*self._services, health.SERVICE_NAME, reflection.SERVICE_NAME]
            reflection.enable_server_reflection(names, self._server)
        if credentials is None:
            self.port = self._server.add_insecure_port(settings.listen)
        else:
            self.port = self._server.add_secure_port(settings.listen, credentials)
        await self._server.start()
        await self._report(health_pb2.HealthCheckResponse.SERVING)
        _log.info("serving", listen=settings.listen, port=self.port, rooms=[room.name for room in self.rooms])

    async def _report(self, status: "health_pb2.HealthCheckResponse.ServingStatus.ValueType") -> None:
        for name in ["", *self._services]:
            await self._health.set(name, status)

    async def stop(self, grace: float | None = None) -> None:
        """Report NOT_SERVING, let running calls finish for grace seconds, end the rest, close everything."""
        grace = self.settings.drain_seconds if grace is None else grace
        await self._report(health_pb2.HealthCheckResponse.NOT_SERVING)
        # Tells clients at once to take new calls elsewhere, while the running ones go on.
        stopping = asyncio.create_task(self._server.stop(grace + 3.0))
        await self._pipeline.drain(grace)
        await stopping
        for room in reversed(self.rooms):
            await room.stop()
        await self.resources.close()
        self._audit.close()
        if self._metrics is not None:
            self._metrics.shutdown()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then stop."""
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sig, ended.set)
        await self.start()
        await ended.wait()
        _log.info("stopping", grace=self.settings.drain_seconds)
        await self.stop()


def _mount(servicer: Any, server: grpc.aio.Server) -> str:
    """Register a servicer by the function generated beside its class; return the service's full name."""
    for base in type(servicer).__mro__:
        if base.__name__.endswith("Servicer") and base.__module__.endswith("_pb2_grpc"):
            module = importlib.import_module(base.__module__)
            getattr(module, f"add_{base.__name__}_to_server")(servicer, server)
            messages = importlib.import_module(base.__module__.removesuffix("_grpc"))
            service = base.__name__.removesuffix("Servicer")
            return messages.DESCRIPTOR.services_by_name[service].full_name
    raise TypeError(f"{type(servicer).__name__} is not a generated servicer")
