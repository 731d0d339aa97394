"""The audit log: one JSON line for each call of a mutating method."""

import datetime
import hashlib
import json
import os
from pathlib import Path


class AuditLog:
    """An append-only file of JSON lines; lines of several processes never mix.

    A line holds ``time`` (UTC), ``principal``, ``actor`` (the token that made the call on the principal's behalf; empty
    where the principal called itself), ``method``, ``request_id``, ``digest`` (SHA-256 of the request's bytes; of a
    stream's first message) and ``code``. It does not hold the request, so that the log may be kept where the data may
    not.

    Parameters
    ----------
    path
        Created with mode 0600, its folder with 0700.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def record(
        self, *, principal: str, actor: str, method: str, request_id: str, request: bytes, code: str
    ) -> None:
        """Append one line, in one write."""
        line = {
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
            "principal": principal,
            "actor": actor,
            "method": method,
            "request_id": request_id,
            "digest": f"sha256:{hashlib.sha256(request).hexdigest()}",
            "code": code,
        }
        os.write(self._file, json.dumps(line).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
