"""A catalogue behaves like an ordered dictionary whose links come and go with its entries."""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pytest
import redis
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from palimpsest.catalogue import Catalogue, Layout, Links
from palimpsest.errors import FailedPrecondition, InvalidArgument, NotFound, Reason, Unavailable


@dataclass(frozen=True)
class Thing:
    """An entry: some text, a tag that is indexed, and a parent."""

    thing_id: str
    text: str
    tag: str = ""
    parent: str = ""


def missing(thing_id):
    return NotFound(Reason.MODEL_NOT_FOUND, f"There is no {thing_id}.")


def has_children(thing_id, children):
    return FailedPrecondition(Reason.MODEL_HAS_CHILDREN, f"{thing_id}: {' '.join(children)}")


def things(client, prefix, *, by_name=False, shared=False):
    def links(thing):
        parents = [thing.parent] if thing.parent else []
        return Links(
            members=[
                (f"{prefix}tag:{thing.tag}", thing.thing_id),
                *((f"{prefix}children:{parent}", thing.thing_id) for parent in parents),
            ],
            counts=[(f"{prefix}tags", thing.tag)],
            needs=parents,
            held_by=f"{prefix}children:{thing.thing_id}",
        )

    def write(thing):
        return [json.dumps([thing.thing_id, thing.text, thing.tag, thing.parent])]

    def read(values):
        return Thing(*json.loads(values[0]))

    row = (lambda _: f"{prefix}rows") if shared else (lambda thing_id: f"{prefix}thing:{thing_id}")
    fields = {"fields": lambda thing_id: (thing_id,)} if shared else {}
    layout = Layout(f"{prefix}things", row, write, read, links=links, by_name=by_name, **fields)
    return Catalogue(client, layout, missing, has_children)


@pytest.fixture
def client(valkey):
    return redis.Redis.from_url(valkey.url)


@pytest.mark.parametrize(("by_name", "shared"), [(False, False), (True, False), (True, True), (False, True)])
def test_it_is_an_ordered_dictionary(client, by_name, shared):
    ids = st.sampled_from(["a", "b", "c", "ä", "B"])

    class Machine(RuleBasedStateMachine):
        @initialize()
        def empty(self):
            self.prefix = f"test-{uuid.uuid4().hex[:12]}:"
            self.catalogue = things(client, self.prefix, by_name=by_name, shared=shared)
            self.model: dict[str, Thing] = {}

        @rule(thing_id=ids, text=st.text(max_size=5), tag=st.sampled_from("xy"), parent=st.just("") | ids)
        def put(self, thing_id, text, tag, parent):
            thing = Thing(thing_id, text, tag, parent)
            if thing_id not in self.model and parent and parent not in self.model:
                with pytest.raises(NotFound, match=f"no {parent}"):
                    self.catalogue.put(thing_id, thing)
                return
            assert self.catalogue.put(thing_id, thing) == self.model.get(thing_id)
            self.model.setdefault(thing_id, thing)

        @rule(thing_id=ids, text=st.text(max_size=5))
        def update(self, thing_id, text):
            if thing_id not in self.model:
                with pytest.raises(NotFound):
                    self.catalogue.update(thing_id, lambda thing: thing)
                return
            self.model[thing_id] = replace(self.model[thing_id], text=text)
            found = self.catalogue.update(thing_id, lambda thing: replace(thing, text=text))
            assert found == self.model[thing_id]

        @rule(thing_id=ids)
        def delete(self, thing_id):
            children = [each.thing_id for each in self.model.values() if each.parent == thing_id]
            if thing_id not in self.model:
                with pytest.raises(NotFound):
                    self.catalogue.delete(thing_id)
            elif children:
                with pytest.raises(FailedPrecondition, match=" ".join(sorted(children))):
                    self.catalogue.delete(thing_id)
            else:
                assert self.catalogue.delete(thing_id) == self.model.pop(thing_id)

        @rule(size=st.integers(1, 3), tag=st.sampled_from(["", "x"]))
        def pages(self, size, tag):
            order = sorted(self.model, key=str.encode) if by_name else list(self.model)
            wanted = [self.model[each] for each in order if not tag or self.model[each].tag == tag]
            found, token = [], ""
            where = (lambda thing: thing.tag == tag) if tag else None
            while True:
                page, token = self.catalogue.list(size, token, where)
                found += page
                assert len(page) == size or not token, "only the last page is short"
                if not token:
                    break
                assert page, "a token promises another page"
            assert found == wanted

        @invariant()
        def everything_is_there(self):
            if not hasattr(self, "model"):
                return
            for thing_id in ("a", "b", "c", "ä", "B"):
                assert self.catalogue.find(thing_id) == self.model.get(thing_id)
            assert set(self.catalogue.ids()) == set(self.model)
            tags = client.hgetall(f"{self.prefix}tags")
            for tag in "xy":
                tagged = {each.thing_id.encode() for each in self.model.values() if each.tag == tag}
                assert client.smembers(f"{self.prefix}tag:{tag}") == tagged
                assert int(tags.get(tag.encode(), 0)) == len(tagged)

        def teardown(self):
            if hasattr(self, "model"):
                for key in client.scan_iter(f"{self.prefix}*"):
                    client.delete(key)

    run_state_machine_as_test(
        Machine, settings=hypothesis_settings(max_examples=15, stateful_step_count=25, deadline=None)
    )


def test_a_deleted_catalogue_leaves_nothing_but_its_counter(client, redis_prefix):
    catalogue = things(client, redis_prefix)
    catalogue.put("a", Thing("a", "text", "x"))
    catalogue.put("b", Thing("b", "text", "x", "a"))
    catalogue.delete("b")
    catalogue.delete("a")
    assert [*client.scan_iter(f"{redis_prefix}*")] == [f"{redis_prefix}things:next".encode()]


def test_pages_stand_still_while_entries_come_and_go(client, redis_prefix):
    catalogue = things(client, redis_prefix)
    for name in "abcd":
        catalogue.put(name, Thing(name, ""))
    page, token = catalogue.list(2)
    catalogue.delete("b")
    catalogue.delete("c")
    catalogue.put("b", Thing("b", "again"))
    rest, end = catalogue.list(2, token)
    assert [each.thing_id for each in page + rest] == ["a", "b", "d", "b"]
    assert end == ""


def test_a_page_token_of_another_method_is_refused(client, redis_prefix):
    with pytest.raises(InvalidArgument, match="not a page token"):
        things(client, redis_prefix).list(2, "x1")


def test_of_two_puts_at_the_same_moment_one_wins(client, redis_prefix):
    catalogue = things(client, redis_prefix)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: catalogue.put("a", Thing("a", str(n))), range(32)))
    winners = [n for n, answer in enumerate(answers) if answer is None]
    assert len(winners) == 1
    assert {answer.text for answer in answers if answer is not None} == {str(winners[0])}


def test_no_update_is_lost(client, redis_prefix):
    catalogue = things(client, redis_prefix)
    catalogue.put("a", Thing("a", "0"))
    with ThreadPoolExecutor(4) as pool:
        list(
            pool.map(
                lambda _: catalogue.update("a", lambda each: replace(each, text=str(int(each.text) + 1))),
                range(20),
            )
        )
    assert catalogue.get("a").text == "20"


def test_a_deletion_sees_a_change_that_comes_in_between(client, redis_prefix):
    """The links removed are those of the entry that is deleted, not of the one that was read before."""
    catalogue = things(client, redis_prefix)
    catalogue.put("a", Thing("a", "1"))
    read, changes = catalogue._layout.read, iter([True])

    def racing(values):
        if next(changes, False):
            things(client, redis_prefix).update("a", lambda each: replace(each, text="2"))
        return read(values)

    slow = Catalogue(client, replace(catalogue._layout, read=racing), missing, has_children)
    assert slow.delete("a").text == "2"
    assert catalogue.find("a") is None


def test_a_field_that_older_versions_did_not_store_reads_as_empty(client, redis_prefix):
    layout = Layout(
        f"{redis_prefix}pairs",
        lambda pair_id: f"{redis_prefix}pair:{pair_id}",
        write=list,
        read=tuple,
        fields=lambda _: ("old", "new"),
    )
    catalogue = Catalogue(client, layout, missing)
    client.hset(f"{redis_prefix}pair:a", "old", "1")
    client.zadd(f"{redis_prefix}pairs", {"a": 1})
    assert catalogue.get("a") == ("1", "")
    assert catalogue.update("a", lambda pair: (pair[0], "2")) == ("1", "2")
    assert catalogue.delete("a") == ("1", "2")
    assert catalogue.ids() == []


def test_no_redis_is_unavailable(tmp_path):
    away = things(redis.Redis(unix_socket_path=str(tmp_path / "none.sock"), retry=None), "p:")
    for call in (away.ids, away.list, lambda: away.get("a"), lambda: away.put("a", Thing("a", ""))):
        with pytest.raises(Unavailable):
            call()
