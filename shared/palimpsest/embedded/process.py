"""Child processes that cannot outlive their parent."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def die_with_parent(sig: signal.Signals = signal.SIGTERM) -> Callable[[], None]:
    """Return a ``preexec_fn`` that makes the kernel signal the child when its parent ends, however it ends.

    Linux only; elsewhere the returned function does nothing, and an orphan is found and stopped by the next
    start on the same state directory. The signal is tied to the parent *thread*, so start such children from
    a thread that lives as long as they should.
    """
    if sys.platform != "linux":
        return lambda: None
    libc = ctypes.CDLL(None, use_errno=True)  # before the fork: loading a library after it is not safe
    parent = os.getpid()

    def tie() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(sig))
        if os.getppid() != parent:  # the parent ended between fork and prctl
            os._exit(0)

    return tie
