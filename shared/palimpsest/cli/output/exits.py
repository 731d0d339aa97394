"""The exit codes of the command, in one table that --help prints."""

from enum import IntEnum

from palimpsest.errors import Code, PalimpsestError


class Exit(IntEnum):
    """What the command ends with."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNAVAILABLE = 4
    REFUSED = 5
    CANCELLED = 6
    INTERRUPTED = 130


MEANINGS = {
    Exit.OK: "it worked",
    Exit.FAILED: "the job, the server or a check failed",
    Exit.USAGE: "the command line or the request is wrong",
    Exit.NOT_FOUND: "no such model, artefact, job or file",
    Exit.UNAVAILABLE: "no server answers, or not in time",
    Exit.REFUSED: "refused: state, permission, name or quota",
    Exit.CANCELLED: "the job was cancelled",
    Exit.INTERRUPTED: "interrupted by Ctrl-C",
}

_BY_CODE = {
    Code.INVALID_ARGUMENT: Exit.USAGE,
    Code.OUT_OF_RANGE: Exit.USAGE,
    Code.NOT_FOUND: Exit.NOT_FOUND,
    Code.UNAVAILABLE: Exit.UNAVAILABLE,
    Code.DEADLINE_EXCEEDED: Exit.UNAVAILABLE,
    Code.ALREADY_EXISTS: Exit.REFUSED,
    Code.FAILED_PRECONDITION: Exit.REFUSED,
    Code.ABORTED: Exit.REFUSED,
    Code.RESOURCE_EXHAUSTED: Exit.REFUSED,
    Code.UNAUTHENTICATED: Exit.REFUSED,
    Code.PERMISSION_DENIED: Exit.REFUSED,
    Code.CANCELLED: Exit.CANCELLED,
}


def exit_code(error: PalimpsestError) -> Exit:
    """Return the exit code for an error; FAILED for kinds without a code of their own."""
    return _BY_CODE.get(error.code, Exit.FAILED)


def table() -> str:
    """Return the exit codes as help text, one paragraph each."""
    lines = [f"{int(code)}  {meaning}" for code, meaning in MEANINGS.items()]
    return "Exit codes:\n\n" + "\n\n".join(lines)
