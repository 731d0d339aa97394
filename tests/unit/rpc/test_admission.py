"""Whose places a call takes: a job's calls take none of its caller's own."""

import pytest

from palimpsest.errors import ResourceExhausted
from palimpsest.rpc.admission import CHECK, Admission
from palimpsest.settings import Settings

GENERATE = "/palimpsest.api.decoding.v1.DecodingService/Generate"
CANCEL = "/google.longrunning.Operations/CancelOperation"


def admission() -> Admission:
    return Admission(Settings(max_concurrent_rpcs=4, reserved_rpcs=2, caller_share=0.5))


def test_calls_of_jobs_and_calls_of_their_caller_do_not_take_each_others_places():
    places = admission()
    of_jobs = [places.enter(GENERATE, "ann", by_job=True) for _ in range(2)]
    with pytest.raises(ResourceExhausted, match="as many as one caller may have"):
        places.enter(GENERATE, "ann", by_job=True)
    own = [places.enter(GENERATE, "ann") for _ in range(2)]
    with pytest.raises(ResourceExhausted, match="as many as one caller may have"):
        places.enter(GENERATE, "ann")
    for entered in (*of_jobs, *own):
        assert entered is not None
        entered.leave("ann")
    assert places.enter(GENERATE, "ann", by_job=True) is of_jobs[0]


def test_the_jobs_of_all_callers_share_a_limit_and_leave_everybody_theirs():
    places = admission()
    for principal in ("ann", "ann", "bob", "bob"):
        places.enter(GENERATE, principal, by_job=True)
    with pytest.raises(ResourceExhausted, match="its limit"):
        places.enter(GENERATE, "eve", by_job=True)
    assert places.enter(GENERATE, "eve") is not None
    assert places.enter(CANCEL, "ann") is not None
    assert places.enter(CHECK, "ann", by_job=True) is None
