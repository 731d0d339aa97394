"""TCP proxies that cut connections, or let nothing more through, after so many bytes: the network at its worst."""

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


class DamProxy:
    """Forwards to target; once so many bytes have come from it, nothing more does, and connections stay open.

    Parameters
    ----------
    target
        ``host:port`` to forward to.
    passes
        Bytes of the target's that get through, of all connections together.
    """

    def __init__(self, target: str, passes: int) -> None:
        self._host, _, port = target.rpartition(":")
        self._port, self._left = int(port), passes
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def closed(self) -> bool:
        """Whether it lets nothing more through."""
        return self._left == 0

    async def __aenter__(self) -> "DamProxy":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.target = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        other_reader, other_writer = await asyncio.open_connection(self._host, self._port)

        async def out() -> None:
            while data := await reader.read(65536):
                other_writer.write(data)
                await other_writer.drain()

        async def back() -> None:
            while data := await other_reader.read(min(65536, self._left)):
                self._left -= len(data)
                writer.write(data)
                await writer.drain()
            await asyncio.get_running_loop().create_future()  # never

        try:
            await asyncio.gather(out(), back())
        finally:
            for end in (writer, other_writer):
                end.transport.abort()
