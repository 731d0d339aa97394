"""Two thousand messages over every method, through a real server and worker: an answer each, and never INTERNAL."""

from collections import Counter

import pytest

from tests.fuzz.runs import every_method, run

MESSAGES = 2000


@pytest.mark.timeout(1200)
async def test_no_message_is_a_bug(tmp_path):
    outcome = await run(tmp_path, MESSAGES, 20260117, tokens=True, job_seconds=30.0)
    assert not outcome.wrong, "\n".join(outcome.wrong)
    assert sum(outcome.codes.values()) == MESSAGES
    assert {method for method, _ in outcome.codes} == {method.full_name for method in every_method()}
    seen = Counter()
    for (_, code), count in outcome.codes.items():
        seen[code] += count
    # The messages are worth refusing, and worth taking.
    assert seen["INVALID_ARGUMENT"] > MESSAGES // 5
    assert seen["OK"] > MESSAGES // 10
    reached = {method for method, code in outcome.codes if code in ("OK", "FAILED_PRECONDITION")}
    assert len(reached) > len(every_method()) // 2
    assert len({kind for kind, _ in outcome.jobs}) >= 10
