"""A server that asks for tokens, for tests of who may do what."""

import contextlib
import json
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from palimpsest.rpc.auth import hash_token
from palimpsest.rpc.server import Server
from palimpsest.settings import Settings


def write_tokens(path: Path, scopes: Mapping[str, Sequence[str]], **expires: int) -> None:
    """Write a tokens file in which everybody's token is their name."""
    tokens = [
        {"name": name, "sha256": hash_token(name), "scopes": list(each), "expires": expires.get(name)}
        for name, each in scopes.items()
    ]
    path.write_text(json.dumps({"tokens": tokens}))


@contextlib.asynccontextmanager
async def serving(settings: Settings, rooms: Sequence[Any], tokens: Path | None) -> AsyncIterator[Settings]:
    """Serve rooms; gives the settings with the address, as a worker of the same installation has them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = settings.model_copy(update={"listen": f"127.0.0.1:{port}", "tokens_file": tokens})
    server = Server(settings, list(rooms))
    await server.start()
    try:
        yield settings
    finally:
        await server.stop(0)
