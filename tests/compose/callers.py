"""``python -m tests.compose.callers TOKENS_FILE``: add two ordinary callers to a tokens file; print their tokens."""

import json
import secrets
import sys
from pathlib import Path

from palimpsest.rpc.auth import hash_token

NAMES = ("ann", "bob")
SCOPES = ["artifacts.*", "decoding.*", "jobs.*", "models.*"]


def main(path: Path) -> None:
    """Write the file; print ``{"ann": token, ...}``."""
    tokens = {name: secrets.token_hex(16) for name in NAMES}
    document = json.loads(path.read_text())
    document["tokens"] += [
        {"name": name, "sha256": hash_token(token), "scopes": SCOPES} for name, token in tokens.items()
    ]
    path.write_text(json.dumps(document))
    print(json.dumps(tokens))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
