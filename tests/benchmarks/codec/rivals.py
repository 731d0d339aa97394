"""Loading without the codec: bf16 as it is, and 8 bits with a scale for each token, over a plain socket.

The sender is a process of its own that answers the name of a file with its bytes; the receiver decodes a chunk on a
second thread while the next one arrives. Nothing here is slower than it has to be.
"""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Self


class Rivals:
    """A cache stored in both ways, in chunks, and the process that sends it."""

    def __init__(self, kv, folder: Path, chunk_tokens: int) -> None:
        self._like, self._chunks = kv, kv.chunks(chunk_tokens)
        self._folder = folder
        self.sizes: dict[str, int] = {}
        for name, store in (("raw", _raw), ("u8", _u8)):
            data = [store(chunk) for chunk in self._chunks]
            (folder / name).write_bytes(b"".join(data))
            self.sizes[name] = sum(map(len, data))

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(self._folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.target = self._process.stdout.readline().strip()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)

    def load(self, target: str, name: str, threads: int):
        """Fetch and decode everything; returns the keys and values."""
        import torch

        from palimpsest.kv import KeyValues

        out = KeyValues(torch.empty_like(self._like.keys), torch.empty_like(self._like.values))
        restore = {"raw": _from_raw, "u8": _from_u8}[name]
        with (
            connect(target, name) as connection,
            ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(threads,)) as pool,
        ):
            work = []
            for chunk in self._chunks:
                place = out[chunk.start : chunk.start + chunk.tokens]
                data = bytearray(self.sizes[name] * chunk.tokens // self._like.tokens)
                view = memoryview(data)
                while view:
                    count = connection.recv_into(view)
                    if not count:
                        raise ConnectionError("the sender stopped")
                    view = view[count:]
                work.append(pool.submit(restore, data, place))
            for each in work:
                each.result()
        return out


def connect(target: str, name: str) -> socket.socket:
    """Ask the sender for a file."""
    host, _, port = target.rpartition(":")
    connection = socket.create_connection((host, int(port)))
    connection.sendall(name.encode() + b"\n")
    return connection


def _raw(kv) -> bytes:
    import torch

    return b"".join(part.contiguous().view(torch.uint8).numpy().tobytes() for part in (kv.keys, kv.values))


def _from_raw(data: bytearray, place) -> None:
    import torch

    numbers = torch.frombuffer(data, dtype=torch.bfloat16)
    for part, target in zip(numbers.chunk(2), (place.keys, place.values), strict=True):
        target.copy_(part.view(target.shape))


def _u8(kv) -> bytes:
    import torch

    found = []
    for part in (kv.keys, kv.values):
        scale = (part.float().abs().amax((1, 3), keepdim=True) / 127).clamp_min(1e-12).half()
        cells = (part.float() / scale.float()).round().clamp(-127, 127).to(torch.int8)
        found += [scale.numpy().tobytes(), cells.numpy().tobytes()]
    return b"".join(found)


def _from_u8(data: bytearray, place) -> None:
    import torch

    at = 0
    for target in (place.keys, place.values):
        layers, _, tokens, _ = target.shape
        scale = torch.frombuffer(data, dtype=torch.float16, count=layers * tokens, offset=at)
        cells = torch.frombuffer(
            data, dtype=torch.int8, count=target.numel(), offset=at + 2 * layers * tokens
        )
        at += 2 * layers * tokens + target.numel()
        # bfloat16 holds every cell exactly, and the product is rounded to it anyway.
        wide = scale.view(layers, 1, tokens, 1).bfloat16()
        target.copy_(cells.view(target.shape).bfloat16().mul_(wide))


# What follows runs in the sender's process, without torch.


def answer(connection: socket.socket, folder: Path) -> None:
    """Send the file that is asked for."""
    with suppress(OSError), connection:
        name = connection.recv(64).decode().strip()
        with (folder / name).open("rb") as file:
            connection.sendfile(file)


def serve(folder: Path) -> None:
    """Answer until the standard input ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    print("{}:{}".format(*listener.getsockname()), flush=True)

    def each(act: Callable[[socket.socket, Path], None]) -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=act, args=(connection, folder), daemon=True).start()

    threading.Thread(target=each, args=(answer,), daemon=True).start()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
