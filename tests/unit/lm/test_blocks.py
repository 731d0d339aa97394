"""The block pool under any order of operations."""

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from palimpsest.errors import ResourceExhausted
from palimpsest.lm.blocks import BLOCK, BlockPool, prefix_keys
from palimpsest.lm.paged_cache import PagedCache


class Caches(RuleBasedStateMachine):
    """Sequences whose every key equals its token: what they hold must always be what was written."""

    def __init__(self):
        super().__init__()
        self.pool = BlockPool(1, 1, 4, 12, torch.float32, torch.device("cpu"))
        self.caches: list[tuple[PagedCache, list[int]]] = []

    def write(self, cache, ids):
        data = torch.tensor(ids, dtype=torch.float32)[None, None, :, None].expand(1, 1, -1, 4)
        cache.load(data, -data)

    @rule(ids=st.lists(st.integers(0, 3), max_size=60))
    def new(self, ids):
        cache = PagedCache(self.pool)
        found = cache.adopt(prefix_keys(ids[:-1]))
        try:
            self.write(cache, ids[found:])
        except ResourceExhausted:
            cache.release()
            return
        self.caches.append((cache, list(ids)))
        cache.file(prefix_keys(ids))

    @precondition(lambda self: self.caches)
    @rule(data=st.data(), ids=st.lists(st.integers(0, 3), max_size=40))
    def grow(self, data, ids):
        cache, held = data.draw(st.sampled_from(self.caches))
        try:
            self.write(cache, ids)
        except ResourceExhausted:
            return
        held += ids

    @precondition(lambda self: self.caches)
    @rule(data=st.data())
    def branch(self, data):
        cache, held = data.draw(st.sampled_from(self.caches))
        self.caches.append((cache.branch(), list(held)))

    @precondition(lambda self: self.caches)
    @rule(data=st.data())
    def crop(self, data):
        cache, held = data.draw(st.sampled_from(self.caches))
        length = data.draw(st.integers(0, cache.length))
        cache.crop(length)
        del held[length:]

    @precondition(lambda self: self.caches)
    @rule(data=st.data())
    def release(self, data):
        pair = data.draw(st.sampled_from(self.caches))
        pair[0].release()
        self.caches = [p for p in self.caches if p is not pair]

    @invariant()
    def holds_what_was_written(self):
        for cache, held in self.caches:
            keys, values = cache.export()
            assert keys[0, 0, :, 0].tolist() == held
            assert torch.equal(values, -keys)

    @invariant()
    def counts_add_up(self):
        distinct = {b for cache, _ in self.caches for b in cache.blocks}
        assert self.pool.used == len(distinct)
        assert self.pool.available + len(distinct) == self.pool.blocks


Caches.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestCaches = Caches.TestCase


def test_prefix_keys_name_everything_before_them():
    a, b = list(range(64)), [99, *range(1, 64)]
    assert len(prefix_keys(a)) == 4
    assert prefix_keys(a)[:2] == prefix_keys(a[: 2 * BLOCK])
    assert not set(prefix_keys(a)) & set(prefix_keys(b))


def test_prefix_keys_of_one_salt_are_not_those_of_another():
    ids = list(range(64))
    families = [prefix_keys(ids, salt) for salt in (b"", b"a", b"b", b"ab")]
    assert prefix_keys(ids, b"a") == families[1]
    assert len({key for family in families for key in family}) == 4 * 4


def test_the_least_recently_used_prefix_goes_first():
    pool = BlockPool(1, 1, 4, 3, torch.float32, torch.device("cpu"))
    data = torch.zeros(1, 1, BLOCK, 4)
    prompts = [[n] * BLOCK for n in range(3)]
    for prompt in prompts:
        cache = PagedCache(pool)
        cache.load(data, data)
        cache.file(prefix_keys(prompt))
        cache.release()
    used = PagedCache(pool)
    assert used.adopt(prefix_keys(prompts[0])) == BLOCK
    used.release()
    PagedCache(pool).load(data, data)
    assert [pool.find(prefix_keys(p)[0]) is not None for p in prompts] == [True, False, True]
