"""Child processes that cannot outlive their parent."""

import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
_TIE = f"""
import ctypes, os, sys
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, int(sys.argv[2]))
if os.getppid() != int(sys.argv[1]):  # the parent ended before that
    os._exit(0)
os.execvp(sys.argv[3], sys.argv[3:])
"""


def tied(argv: Sequence[str], sig: signal.Signals = signal.SIGTERM) -> list[str]:
    """Return the command that runs another one and has the kernel signal it when this process ends, however it ends.

    An interpreter asks for the signal and then becomes the command. A ``preexec_fn`` would do without it, but makes
    ``subprocess`` fork, and gRPC's fork handlers can abort the child where threads of gRPC run.

    Linux only; elsewhere the command is returned as it is, and an orphan is found and stopped by the next start on the
    same state directory. The signal is tied to the parent *thread*, so start such children from a thread that lives as
    long as they should.
    """
    if sys.platform != "linux":
        return list(argv)
    return [sys.executable, "-I", "-S", "-c", _TIE, str(os.getpid()), str(int(sig)), *argv]
