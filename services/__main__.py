"""Run rooms as one server: ``python -m services [room ...]``, all of them by default."""

import argparse
import asyncio
import contextlib
import importlib
import pkgutil
import resource

import structlog

import services
from palimpsest.errors import PalimpsestError
from palimpsest.rpc.server import Room, Server
from palimpsest.settings import Settings
from palimpsest.telemetry import configure_tracing
from palimpsest.telemetry.logs import configure_logging

_log = structlog.get_logger("services")  # run as a program, __name__ is another


FRONTS = ("gateway",)
"""Packages that offer the rooms over something else than gRPC: no rooms, and each a process of its own."""


def room_names() -> list[str]:
    """Return the names of the rooms in this checkout."""
    packages = (m.name for m in pkgutil.iter_modules(services.__path__) if m.ispkg)
    return sorted(name for name in packages if name not in FRONTS)


def load(name: str) -> Room:
    """Import one room."""
    return importlib.import_module(f"services.{name}").ROOM


def allow_open_files() -> None:
    """Raise this process's own limit of open files as far as it may: streams and corpora keep some open each."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1 << 20 if most == resource.RLIM_INFINITY else most
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def main(argv: list[str] | None = None) -> None:
    """Serve until SIGTERM."""
    names = room_names()
    parser = argparse.ArgumentParser(prog="python -m services", description=__doc__)
    parser.add_argument("rooms", nargs="*", choices=[*names, []], metavar="room", help=", ".join(names))
    chosen = parser.parse_args(argv).rooms or names
    settings = Settings()
    configure_logging(settings)
    allow_open_files()
    configure_tracing(chosen[0] if len(chosen) == 1 else "server")
    try:
        asyncio.run(Server(settings, [load(name) for name in chosen]).run())
    except PalimpsestError as error:
        _log.error("not serving", reason=error.reason, error=str(error))
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
