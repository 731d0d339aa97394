import pytest
from hypothesis import given
from hypothesis import strategies as st

from palimpsest.errors import ResourceExhausted
from palimpsest.rpc.quotas import Quotas
from palimpsest.settings import Settings


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(1, 3000)), max_size=60))
def test_no_minute_lets_through_more_than_two_allowances_and_one_message(steps):
    clock = Clock()
    quotas = Quotas(Settings(quota_bytes_per_minute=1000), clock)
    taken: list[tuple[float, int]] = []
    for pause, amount in steps:
        clock.now += pause
        try:
            quotas.bytes("alice", amount)
            taken.append((clock.now, amount))
        except ResourceExhausted as error:
            clock.now += (error.retry_after or 0.0) + 1e-6
            quotas.bytes("alice", amount)  # the promise is kept
            taken.append((clock.now, amount))
        within = [n for when, n in taken if when > clock.now - 60]
        assert sum(within) <= 2 * 1000 + max(within) + 1


def test_callers_do_not_share():
    quotas = Quotas(Settings(quota_requests_per_minute=1), Clock())
    quotas.request("alice")
    quotas.request("bob")
    with pytest.raises(ResourceExhausted):
        quotas.request("alice")


def test_zero_is_no_quota():
    assert (Settings().quota_requests_per_minute, Settings().quota_bytes_per_minute) == (0, 0)
    unlimited, limited = (
        Quotas(Settings(quota_requests_per_minute=requests, quota_bytes_per_minute=size), Clock())
        for requests, size in ((0, 0), (1000, 1 << 30))
    )
    for _ in range(1000):
        unlimited.request("alice")
        unlimited.bytes("alice", 1 << 30)
        limited.request("alice")
    limited.bytes("alice", 1 << 30)
    unlimited.request("alice")
    with pytest.raises(ResourceExhausted):
        limited.request("alice")
    with pytest.raises(ResourceExhausted):
        limited.bytes("alice", 1)


def test_calls_of_jobs_count_against_nobody():
    quotas = Quotas(Settings(quota_requests_per_minute=1, quota_bytes_per_minute=1), clock=lambda: 0.0)
    for _ in range(5):
        quotas.request(None)
        quotas.bytes(None, 100)
    quotas.request("ann")
    with pytest.raises(ResourceExhausted):
        quotas.request("ann")
