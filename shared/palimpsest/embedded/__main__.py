"""The background launcher: ``python -m palimpsest.embedded [host:port]`` keeps a stack until SIGTERM."""

import signal
import sys
import threading

from palimpsest.embedded.stack import Stack
from palimpsest.errors import PalimpsestError
from palimpsest.settings import Settings


def main(arguments: list[str]) -> None:
    """Start the stack, wait for a signal, stop the stack."""
    ended = threading.Event()
    for sig in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sig, lambda *_: ended.set())
    stack = Stack(Settings(), listen=arguments[0] if arguments else None, owner="launcher")
    try:
        stack.start()
    except PalimpsestError as error:
        raise SystemExit(str(error)) from None
    while not ended.wait(0.5) and stack.failure is None:
        pass
    stack.stop()
    if stack.failure is not None:
        raise SystemExit(str(stack.failure))


if __name__ == "__main__":
    main(sys.argv[1:])
