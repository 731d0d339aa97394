"""Which failures pass, and for how long they are borne."""

import pytest

from palimpsest import errors
from palimpsest.client.patience import Patience, transient
from palimpsest.errors import Reason


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (errors.Unavailable(Reason.SERVER_UNREACHABLE, ""), True),
        (errors.Unavailable(Reason.SHUTTING_DOWN, ""), True),
        (errors.ResourceExhausted(Reason.TOO_MANY_REQUESTS, "", retry_after=1.0), True),
        (errors.ResourceExhausted(Reason.STORE_FULL, ""), False),
        (errors.Aborted(Reason.UPLOAD_BUSY, ""), True),
        (errors.Cancelled(Reason.CANCELLED, ""), True),
        (errors.Internal("", "Received RST_STREAM"), True),
        (errors.Internal(Reason.BUG, ""), False),
        (errors.NotFound(Reason.JOB_NOT_FOUND, ""), False),
        (errors.DeadlineExceeded(Reason.DEADLINE_EXCEEDED, ""), False),
    ],
)
def test_what_passes(error, passes):
    assert transient(error) is passes


def test_pauses_grow_and_start_again_after_progress():
    away = errors.Unavailable(Reason.SERVER_UNREACHABLE, "away")
    patience = Patience()
    pauses = [patience.pause(away) for _ in range(8)]
    assert pauses[0] <= 0.1
    assert max(pauses) <= 2.0
    assert pauses[-1] >= 1.0
    patience.progressed()
    assert patience.pause(away) <= 0.1


def test_the_servers_own_advice_is_kept():
    busy = errors.ResourceExhausted(Reason.TOO_MANY_REQUESTS, "busy", retry_after=7.0)
    assert Patience().pause(busy) >= 7.0


def test_patience_ends():
    away = errors.Unavailable(Reason.SERVER_UNREACHABLE, "away")
    patience = Patience(seconds=-1.0)
    with pytest.raises(errors.Unavailable):
        patience.pause(away)


def test_what_does_not_pass_is_raised_at_once():
    with pytest.raises(errors.NotFound):
        Patience().pause(errors.NotFound(Reason.JOB_NOT_FOUND, "gone"))
