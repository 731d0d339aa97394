"""A slow link that bytes really cross: a TCP relay that reads no faster than the link passes on.

It reads from the server into small socket buffers at the link's rate, so that TCP itself holds the server back, as it
does on a real link; nobody who sends knows of it. Only what the server sends is shaped: the other way go requests and
receipts, which are small.

::

    with Link(5e6) as link:
        link.lead_to(stack.target)
        client = Client(link.target)
"""

import socket
import threading
import time
from contextlib import suppress
from typing import Self

LARGEST_READ, SMALLEST_READ = 256 << 10, 2 << 10
QUANTUM = 0.004
"""Seconds of the link's time that one read may take."""
BUFFER = 32 << 10
"""Smallest receive buffer asked of the kernel, in bytes."""
CREDIT = 0.02
"""Seconds the relay may be behind and still catch up: a loaded machine wakes it late."""


class Link:
    """A link for as long as the block runs; all its connections share it.

    Parameters
    ----------
    bytes_per_second
        May be changed at any time.

    Attributes
    ----------
    target
        ``host:port`` of the near end.
    carried
        Bytes that have passed, from the server.
    """

    def __init__(self, bytes_per_second: float) -> None:
        self.bytes_per_second = bytes_per_second
        self.carried = 0
        self._lock = threading.Lock()
        self._free = 0.0
        self._server: tuple[str, int] | None = None
        self._ends: set[socket.socket] = set()

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, name="palimpsest-link", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            ends = [self._listener, *self._ends]
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def lead_to(self, target: str) -> None:
        """Join later connections to the server at ``host:port``; before that they are refused."""
        host, _, port = target.rpartition(":")
        self._server = host, int(port)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket()
            # Before it connects: the window that TCP offers the server is settled then.
            size = max(BUFFER, int(2 * QUANTUM * self.bytes_per_second))
            far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
            try:
                far.connect(self._server or ("127.0.0.1", 0))
            except OSError:
                near.close()
                far.close()
                continue
            with self._lock:
                self._ends |= {near, far}
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, sink, shaped in ((far, near, True), (near, far, False)):
                threading.Thread(target=self._pump, args=(source, sink, shaped), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, shaped: bool) -> None:
        """Pass on what comes until it ends."""
        with suppress(OSError):
            while True:
                most = LARGEST_READ
                if shaped:
                    most = max(SMALLEST_READ, min(most, int(self.bytes_per_second * QUANTUM)))
                data = source.recv(most)
                if not data:
                    break
                if shaped:
                    time.sleep(max(0.0, self._passed(len(data)) - time.monotonic()))
                sink.sendall(data)
        for end, how in ((sink, socket.SHUT_WR), (source, socket.SHUT_RD)):
            with suppress(OSError):
                end.shutdown(how)

    def _passed(self, size: int) -> float:
        """Return when bytes that are here now have passed, after all those before them."""
        with self._lock:
            self.carried += size
            self._free = max(self._free, time.monotonic() - CREDIT) + size / self.bytes_per_second
            return self._free
