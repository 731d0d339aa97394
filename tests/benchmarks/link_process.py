"""The process of a ``Link``: shapes what passes, by the kernel in a network namespace or by itself as a relay.

``link_process.py KIND HOST:PORT`` reads lines of JSON, ``{"rates": [...], "hold": seconds}``; it prints the address it
listens on after the first, and a word after each later one, when its rates hold. It ends with its input, and undoes
what it did. Nothing but the standard library: it starts in a moment.
"""

import ctypes
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

LARGEST_READ, SMALLEST_READ = 256 << 10, 2 << 10
QUANTUM = 0.004
"""Seconds of the link's time that one read may take, and that a token bucket holds."""
BUFFER = 32 << 10
"""Smallest receive buffer asked of the kernel, in bytes."""
CREDIT = 0.02
"""Seconds a relay may be behind and still catch up: a loaded machine wakes it late."""


class Schedule:
    """When bytes have passed, on a link that does one thing after another."""

    def __init__(self, rates: Sequence[float], hold: float) -> None:
        self._lock = threading.Lock()
        self._free = 0.0
        self.set(rates, hold)

    def set(self, rates: Sequence[float], hold: float) -> None:
        """Begin with other rates."""
        with self._lock:
            self.rates, self.hold, self.start = list(rates), hold, time.monotonic()

    def rate(self, at: float) -> tuple[float, float]:
        """Bytes a second at some time, and the time up to which they hold."""
        piece = max(0, int((at - self.start) / self.hold + 1e-9))
        if piece >= len(self.rates) - 1:
            return self.rates[-1], float("inf")
        return self.rates[piece], self.start + (piece + 1) * self.hold

    def passed(self, size: float) -> float:
        """Return when ``size`` bytes that are here now have passed, after all those before them."""
        with self._lock:
            now = max(self._free, time.monotonic() - CREDIT)
            while True:
                rate, until = self.rate(now)
                if now + size / rate <= until:
                    break
                size -= max(0.0, until - now) * rate
                now = until + 1e-9
            self._free = now + size / rate
            return self._free


def pump(source: socket.socket, sink: socket.socket, schedule: Schedule | None) -> None:
    """Pass on what comes, through the schedule if there is one, until it ends."""
    with suppress(OSError):
        while True:
            most = LARGEST_READ
            if schedule is not None:
                rate = schedule.rate(time.monotonic())[0]
                most = max(SMALLEST_READ, min(most, int(rate * QUANTUM)))
            data = source.recv(most)
            if not data:
                break
            if schedule is not None:
                time.sleep(max(0.0, schedule.passed(len(data)) - time.monotonic()))
            sink.sendall(data)
    for end, how in ((sink, socket.SHUT_WR), (source, socket.SHUT_RD)):
        with suppress(OSError):
            end.shutdown(how)


def accept(listener: socket.socket, server: str, schedule: Schedule, shaped: bool) -> None:
    """Join every connection to one to the server."""
    host, _, port = server.rpartition(":")
    while True:
        near, _ = listener.accept()
        far = socket.socket()
        # Before it connects: the window that TCP offers the server is settled then.
        size = max(BUFFER, int(2 * QUANTUM * max(schedule.rates)))
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        far.connect((host, int(port)))
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for source, sink, through in ((far, near, schedule if shaped else None), (near, far, None)):
            threading.Thread(target=pump, args=(source, sink, through), daemon=True).start()


def run(*command: str) -> None:
    """Run a tool; what it says of failure goes to the standard error."""
    subprocess.run(command, check=True, stdout=sys.stderr)


def tbf(rate: float) -> list[str]:
    """Arguments for a token bucket of ``rate`` bytes a second, with the smallest bucket the kernel serves well."""
    burst = max(10_000, int(rate * QUANTUM))
    return ["tbf", "rate", f"{round(8 * rate)}bit", "burst", f"{burst}b", "limit", "4mb"]


@contextmanager
def namespace(name: str) -> Iterator[tuple[str, list[str]]]:
    """Make a namespace at the end of a pair of interfaces; gives its address and the words that name its end."""
    number = os.getpid()
    # 198.18.0.0/15 is set aside for benchmarks.
    net = f"198.{18 + (number >> 14 & 1)}.{number >> 6 & 255}"
    ours, theirs = (f"{net}.{4 * (number & 63) + end}" for end in (1, 2))
    with ExitStack() as undo:
        run("ip", "netns", "add", name)
        undo.callback(run, "ip", "netns", "del", name)
        run("ip", "link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b")
        undo.callback(subprocess.run, ["ip", "link", "del", f"{name}a"], stderr=subprocess.DEVNULL)
        run("ip", "link", "set", f"{name}b", "netns", name)
        run("ip", "address", "add", f"{ours}/30", "dev", f"{name}a")
        run("ip", "-n", name, "address", "add", f"{theirs}/30", "dev", f"{name}b")
        run("ip", "link", "set", f"{name}a", "up")
        run("ip", "-n", name, "link", "set", f"{name}b", "up")
        yield theirs, ["-n", name, "qdisc", "replace", "dev", f"{name}b", "root"]


def listen_in(name: str, address: str) -> socket.socket:
    """Listen in a namespace: a socket stays where it was made, so the thread can come back at once."""
    libc, new_network = ctypes.CDLL(None, use_errno=True), 0x40000000
    with open("/proc/self/ns/net") as here, open(f"/run/netns/{name}") as there:
        if libc.setns(there.fileno(), new_network):
            raise OSError(ctypes.get_errno(), "setns")
        try:
            return socket.create_server((address, 0))
        finally:
            libc.setns(here.fileno(), new_network)


def main() -> None:
    """Run the link until the input ends."""
    kind, server = sys.argv[1:]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit())
    schedule = Schedule(**json.loads(sys.stdin.readline()))
    with ExitStack() as stack:
        shape: list[str] = []
        if kind == "namespace":
            if os.geteuid() or not shutil.which("ip") or not shutil.which("tc"):
                sys.exit("no root, ip or tc here")
            name = f"pal{os.getpid()}"
            address, shape = stack.enter_context(namespace(name))
            run("tc", *shape, *tbf(schedule.rates[0]))
            listener = listen_in(name, address)
        else:
            listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=accept, args=(listener, server, schedule, not shape), daemon=True).start()
        print("{}:{}".format(*listener.getsockname()), flush=True)
        rate = schedule.rates[0]
        while True:
            now, until = schedule.rate(time.monotonic())
            if shape and now != rate:
                run("tc", *shape[:2], "qdisc", "change", *shape[4:-1], "root", *tbf(now))
                rate = now
            # Only the kernel has to be told when the rate changes; the schedule knows.
            wait = None if not shape or until == float("inf") else max(0.0, until - time.monotonic())
            if select.select([sys.stdin], [], [], wait)[0]:
                line = sys.stdin.readline()
                if not line:
                    break
                schedule.set(**json.loads(line))
                if shape:
                    rate = schedule.rates[0]
                    run("tc", *shape, *tbf(rate))
                print("restarted", flush=True)


if __name__ == "__main__":
    main()
