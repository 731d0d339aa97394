"""What an exception that nobody foresaw says is lost; where it was raised, and what it means, is not."""

import errno
import traceback

import pytest

from palimpsest.errors import InvalidArgument, Reason, ResourceExhausted
from palimpsest.lm.faults import is_fatal
from palimpsest.progress import Drain
from palimpsest.redaction import Redacted, redacted

WORD = "zanthopterinqx"


def said(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


@redacted()
def parsed(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        error.add_note(f"while {text} was read")
        raise KeyError(text) from error


def test_the_place_stays_and_the_words_go():
    with pytest.raises(Redacted) as raised:
        parsed(WORD)
    assert WORD not in said(raised.value)
    assert "KeyError" in said(raised.value)
    assert "in parsed" in said(raised.value)


@redacted()
def refused(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise InvalidArgument(Reason.INVALID_REQUEST, "That is no number.") from error


def test_an_error_of_ours_loses_its_causes_alone():
    with pytest.raises(InvalidArgument) as raised:
        refused(WORD)
    assert WORD not in said(raised.value)
    assert "That is no number." in said(raised.value)


def test_what_somebody_acts_on_passes():
    for error in (Drain("now"), FileNotFoundError(errno.ENOENT, "nothing", "there"), MemoryError()):
        with pytest.raises(type(error)) as raised, redacted():
            raise error
        assert raised.value is error
    with pytest.raises(RuntimeError, match="CUDA error") as raised, redacted(keep=is_fatal):
        raise RuntimeError("CUDA error: device-side assert triggered")


def test_a_full_disk_is_one_whatever_was_written():
    with pytest.raises(ResourceExhausted) as raised, redacted():
        raise ValueError(f"{WORD} cannot be written: no space left on device (os error {errno.ENOSPC})")
    assert raised.value.reason == Reason.DISK_FULL
    assert WORD not in said(raised.value)
