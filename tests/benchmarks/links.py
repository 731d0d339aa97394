"""Emulated links that bytes really cross: a process of its own between a server and its clients, shaped by the second.

::

    with Link("127.0.0.1:7600", bytes_per_second=4e6) as link:
        channel = open_channel(link.target)

Two kinds, the same to their users; ``link.kind`` says which it is and ``link.how`` how it works.

``"namespace"``, where this process is root and has ``ip`` and ``tc``: the link is a pair of virtual network interfaces,
one of them in a network namespace of its own, with the kernel's token bucket filter (``tc tbf``) on what it sends.

``"relay"``, anywhere: a TCP relay reads from the server no faster than the link passes it on, into small socket
buffers, so that TCP itself holds the server back.

Only what the server sends is shaped: the other way go requests and receipts, which are small. All connections share
the link. The rate may follow a trace, which begins anew whenever ``restart`` is called.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

PROCESS = Path(__file__).with_name("link_process.py")
HOW = {
    "namespace": "tc tbf on a veth pair into a network namespace of its own",
    "relay": "a TCP relay in a process of its own that reads at the link's rate into small socket buffers",
}


class Link:
    """A link to ``target`` for as long as the block runs.

    Parameters
    ----------
    target
        ``host:port`` of the server.
    bytes_per_second
        A steady rate, or
    trace
        rates one after another, the last of which goes on for ever,
    hold
        with the seconds each of them lasts.
    kind
        ``"namespace"``, ``"relay"``, or ``"auto"``: the former where it works.
    """

    def __init__(
        self,
        target: str,
        bytes_per_second: float = 0.0,
        *,
        trace: Sequence[float] = (),
        hold: float = 1.0,
        kind: str = "auto",
    ) -> None:
        self.server, self._rates, self._hold = target, [*trace] or [bytes_per_second], hold
        self.kind, self.target = kind, ""

    @property
    def how(self) -> str:
        """How the link is made, in words."""
        return HOW[self.kind]

    def __enter__(self) -> Self:
        kinds = ("namespace", "relay") if self.kind == "auto" else (self.kind,)
        for self.kind in kinds:
            self._process = subprocess.Popen(
                [sys.executable, PROCESS, self.kind, self.server],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL if len(kinds) > 1 and self.kind == "namespace" else None,
                text=True,
            )
            with suppress(BrokenPipeError):
                self.restart(trace=self._rates, hold=self._hold)
                self.target = self._line()
            if self.target:
                return self
            self.__exit__()
        raise RuntimeError("the link's process ended before it listened")

    def restart(
        self, bytes_per_second: float = 0.0, *, trace: Sequence[float] = (), hold: float = 1.0
    ) -> None:
        """Change the rate, or begin a trace; it counts from now."""
        self._rates, self._hold = [*trace] or [bytes_per_second], hold
        assert min(self._rates) > 0
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"rates": self._rates, "hold": hold}) + "\n")
        self._process.stdin.flush()
        if self.target:
            self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(20)
