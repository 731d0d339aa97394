"""``python -m tests.integration.rpc.recorded_server``: every room, and a file of what is imported while it serves."""

import asyncio
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from typing import Any

from palimpsest.rpc.server import Server
from palimpsest.settings import Settings
from palimpsest.telemetry.logs import configure_logging
from services.__main__ import load, room_names


class Recorder(MetaPathFinder):
    """Finds nothing; notes what is looked for."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "a", buffering=1)  # noqa: SIM115 - open for the life of the process

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None) -> None:
        self._file.write(fullname + "\n")


class RecordedServer(Server):
    """Notes imports from the moment it reports SERVING."""

    async def _report(self, status: Any) -> None:
        sys.meta_path.insert(0, Recorder(os.environ["PALIMPSEST_TEST_FILES"]))
        await super()._report(status)


if __name__ == "__main__":
    settings = Settings()
    configure_logging(settings)
    asyncio.run(RecordedServer(settings, [load(name) for name in room_names()]).run())
