"""The cache keeps what was used last, within its bounds, and makes each value once."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palimpsest.lru import LruCache

KEYS = st.integers(0, 5)
CALLS = st.lists(
    st.tuples(st.sampled_from(["get", "put", "pop", "setdefault", "make"]), KEYS, st.integers(1, 9))
)


@given(CALLS, st.integers(1, 4), st.integers(1, 20))
def test_it_behaves_like_a_list_of_what_was_used_last(calls, entries, weight):
    cache = LruCache[int, int](entries, weigh=lambda value: value, weight=weight)
    model: list[tuple[int, int]] = []

    def put(key, value):
        model[:] = [*(each for each in model if each[0] != key), (key, value)]
        while len(model) > entries or (len(model) > 1 and sum(value for _, value in model) > weight):
            del model[0]

    for call, key, value in calls:
        known = dict(model).get(key)
        if call == "put":
            assert cache.put(key, value) == value
            put(key, value)
        elif call == "pop":
            assert cache.pop(key) == known
            model[:] = [each for each in model if each[0] != key]
        else:
            found = {
                "get": lambda: cache.get(key),  # noqa: B023
                "setdefault": lambda: cache.setdefault(key, value),  # noqa: B023
                "make": lambda: cache.get_or_make(key, lambda: value),  # noqa: B023
            }[call]()
            expected = known if known is not None or call == "get" else value
            assert found == expected
            if expected is not None and (known is None or call != "put"):
                if known is None:
                    put(key, expected)
                else:
                    model[:] = [*(each for each in model if each[0] != key), (key, known)]
        assert len(cache) == len(model)
        assert all(key in cache for key, _ in model)
        assert cache.weight == sum(value for _, value in model)


def test_what_is_evicted_is_reported_oldest_first():
    gone = []
    cache = LruCache[str, int](2, evicted=lambda key, value: gone.append((key, value)))
    for key in "abc":
        cache.put(key, ord(key))
    cache.get("b")
    cache.put("d", 4)
    cache.put("d", 5)
    cache.clear()
    assert gone == [("a", ord("a")), ("c", ord("c"))]
    assert len(cache) == cache.weight == 0


def test_a_callback_may_use_the_cache():
    cache: LruCache[str, int] = LruCache(1, evicted=lambda key, _: seen.append(cache.get(key)))
    seen: list[int | None] = []
    cache.put("a", 1)
    cache.put("b", 2)
    assert seen == [None]


def test_an_entry_heavier_than_the_bound_is_kept_alone():
    cache = LruCache[str, bytes](9, weigh=len, weight=10)
    cache.put("small", b"12")
    cache.put("large", bytes(99))
    assert "small" not in cache
    assert "large" in cache
    cache.put("next", b"1")
    assert "large" not in cache


def test_threads_that_want_one_value_make_it_once_and_hold_up_no_other():
    cache = LruCache[str, int](4)
    begun, go, made = threading.Event(), threading.Event(), []

    def make():
        made.append(1)
        begun.set()
        assert go.wait(30)
        return 7

    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(cache.get_or_make, "slow", make) for _ in range(4)]
        assert begun.wait(30)
        assert cache.get_or_make("other", lambda: 1) == 1
        go.set()
        assert [each.result(30) for each in waiting] == [7] * 4
    assert made == [1]


def test_a_failure_is_raised_and_the_next_call_tries_again():
    cache = LruCache[str, int](4)

    def fail():
        raise OSError("away")

    with pytest.raises(OSError, match="away"):
        cache.get_or_make("a", fail)
    assert "a" not in cache
    assert cache.get_or_make("a", lambda: 3) == 3


def test_bounds_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        LruCache(0)
    with pytest.raises(ValueError, match="together"):
        LruCache(1, weight=3)
