"""A TCP proxy that cuts connections after so many bytes: the network at its worst, reproducibly."""

import asyncio
import contextlib
from collections.abc import Iterator


class CuttingProxy:
    """Forwards to target; each connection is cut after the next number of bytes, later ones not at all.

    Parameters
    ----------
    target
        ``host:port`` to forward to.
    cuts
        Bytes (both ways together) after which the first, second ... connection ends.
    """

    def __init__(self, target: str, cuts: list[int]) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._cuts: Iterator[int] = iter(cuts)
        self.connections = 0
        self.cut = 0
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> "CuttingProxy":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.target = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut_all()

    def cut_all(self) -> None:
        """Cut what is open now."""
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        left = [next(self._cuts, None)]
        try:
            other_reader, other_writer = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, other_writer}

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    if left[0] is not None:
                        data = data[: left[0]]
                        left[0] -= len(data)
                    sink.write(data)
                    await sink.drain()
                    if left[0] == 0:
                        self.cut += 1
                        break
            for end in (writer, other_writer):
                end.transport.abort()

        await asyncio.gather(pump(reader, other_writer), pump(other_reader, writer))
        self._open -= {writer, other_writer}
