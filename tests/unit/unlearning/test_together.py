"""Requests of one run: which are alike, the union of their data, what they are to later ones, what was decided."""

import itertools
import re
from dataclasses import replace

import pytest
import redis

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.cli.unlearn.reports import show
from palimpsest.jobs import JobStore
from palimpsest.jobs.submission import job_spec
from palimpsest.models import ModelCatalogue, ModelRecord
from palimpsest.report.removal.page import removal_page
from palimpsest.settings import Settings
from services.unlearning.metrics.items import Pair, Text
from services.unlearning.removal.datasets.sets import DataSet, encode_set
from services.unlearning.removal.datasets.union import has_room, union_of
from services.unlearning.removal.earlier import MOST_EARLIER
from services.unlearning.removal.together.decision import ALONE, RunFacts, Together
from services.unlearning.requests import budget
from services.unlearning.requests.alike import MOST_TOGETHER, OWN, alike, waiting
from services.unlearning.requests.history import past_of
from services.unlearning.requests.line import Line
from services.unlearning.requests.records import PREFIX, RemovalCatalogue, RemovalRecord
from services.unlearning.requests.settling import Settler
from services.unlearning.workspace import Workspace
from tests.unit.report.removals import request
from tests.unit.unlearning.test_sets import Words

PLAN = pb.RemovalPlan(model="m", new_model="n", forget="sha256:f", algorithm="ga_gdr", coalesce=True)
PLAN.parameters["alpha"], PLAN.parameters["beta"] = "3", "1"


def changed(**fields) -> pb.RemovalPlan:
    plan = pb.RemovalPlan()
    plan.CopyFrom(PLAN)
    plan.MergeFrom(pb.RemovalPlan(**fields))
    return plan


OTHERWISE = {
    "forget": "sha256:other",
    "new_model": "other",
    "corpora": [pb.CorpusPurge(corpus="corpora/a", documents=["d"])],
    "ngram_stores": ["ngramStores/a"],
    "contexts": ["contexts/a"],
    "delete_forget_set": True,
}
DIFFERENT = {
    "model": "other",
    "retain": "sha256:r",
    "holdout": "sha256:h",
    "utility": "sha256:u",
    "references": ["r"],
    "algorithm": "ga",
    "parameters": {"alpha": "4"},
    "training": pb.Training(seed=1),
    "stopping": pb.Stopping(rule="forget_match"),
    "attacks": pb.Attacks(names=["int4/32"]),
    "utility_budget": 1.0,
    "search": pb.Search(trials=2),
    "start": "s",
    "teacher": "t",
    "replay": pb.Replay(keep=3),
}


def test_every_field_of_a_plan_makes_a_difference_but_those_that_have_no_part_in_training():
    assert set(OTHERWISE) == set(OWN)
    assert {*OTHERWISE, *DIFFERENT, "coalesce"} == {each.name for each in pb.RemovalPlan.DESCRIPTOR.fields}
    for name, value in OTHERWISE.items():
        assert alike(PLAN, changed(**{name: value})), name
    for name, value in DIFFERENT.items():
        assert not alike(PLAN, changed(**{name: value})), name
    unasked = pb.RemovalPlan()
    unasked.CopyFrom(PLAN)
    unasked.coalesce = False
    assert not alike(PLAN, unasked)
    assert not alike(unasked, unasked)


def encoded(*entries: tuple[str, str], questions: tuple[Pair, ...] = (), artifact: str = "sha256:0"):
    documents = tuple(Text(name, text) for name, text in entries)
    return encode_set(DataSet("forget", artifact, documents, questions), Words(), 3)


def test_a_union_has_every_text_once_and_all_sets_take_turns():
    asked = (Pair("q", "who is it", "nobody"),)
    one = encoded(("a", "x xx xxx xxxx xxxxx"), ("b", "xx x"), artifact="sha256:1")
    two = encoded(("a", "xxxx xxxx"), ("c", "xx x"), ("d", "xxx x"), ("e", "xxx x"), artifact="sha256:2")
    three = replace(
        encoded(artifact="sha256:3"),
        source=DataSet("forget", "sha256:3", (Text("b", "xx x"),), asked),
        examples=encode_set(DataSet("forget", "", (Text("b", "xx x"),), asked), Words(), 9).examples,
        tokens={"b": 2, "q": 6},
    )
    union = union_of({"r1": one, "r2": two, "r3": three})
    assert [(each.name, each.ids) for each in union.examples] == [
        ("r1/a", (1, 2, 3)), ("r2/a", (4, 4)), ("r3/q", three.examples[1].ids),
        ("r1/a", (3, 4, 5)), ("r2/d", (3, 1)), ("r1/b", (2, 1)), ("r2/e", (3, 1)),
    ]  # fmt: skip
    assert union.examples[2].counted == three.examples[1].counted
    assert [each.id for each in union.source.documents] == ["r1/a", "r1/b", "r2/a", "r2/d", "r2/e"]
    assert [each.id for each in union.source.questions] == ["r3/q"]
    assert union.total == 5 + 2 + 2 + 2 + 2 + 6
    assert union.source.artifact == "sha256:1 sha256:2 sha256:3"
    # Another order is another union, and one set is itself.
    assert union_of({"r2": two, "r1": one}).examples[0].name == "r2/a"
    assert [each.ids for each in union_of({"r1": one}).examples] == [each.ids for each in one.examples]


def test_a_union_is_no_larger_than_a_data_set(monkeypatch):
    one = encoded(("a", "x xx xxx xxxx xxxxx"), ("b", "xx x"))
    for limit, value in (("MOST_EXAMPLES", 3), ("MOST_TOKENS", 7)):
        monkeypatch.setattr(f"services.unlearning.removal.datasets.union.{limit}", value)
        assert has_room([one])
        assert not has_room([one, encoded(("c", "x x"))])
        monkeypatch.undo()


def test_a_decision_survives_its_file_and_is_made_once(tmp_path):
    group = Together(("removalRequests/a", "removalRequests/b"), ("sha256:1", "sha256:2"), 15)
    taken = Together(group.requests, (), 15, RunFacts("sha256:m", 7, "probe", "sha256:c"))
    for number, each in enumerate((ALONE, group, taken)):
        space = Workspace(Settings(state_dir=tmp_path), "local", f"request-{number}")
        assert space.write_new("decided", each.facts())
        assert not space.write_new("decided", {"requests": ["another attempt's"]})
        assert Together.of(space.read("decided")) == each
    assert ALONE.message() is None
    assert group.message() == pb.SharedRun(requests=group.requests, steps=15)


def test_a_run_is_for_no_more_requests_than_later_ones_look_at():
    assert MOST_TOGETHER <= MOST_EARLIER


@pytest.fixture
def catalogues(settings):
    client = redis.Redis.from_url(settings.redis_url)
    return RemovalCatalogue(client, settings.redis_prefix), ModelCatalogue(client, settings.redis_prefix)


NUMBERS = itertools.count()


def record(name: str, before: str = "", after: str = "", forget: str = "", **fields) -> RemovalRecord:
    """A request that has succeeded, with two points of utility lost; without ``after`` one that waits."""
    plan = changed(forget=forget or f"sha256:{next(NUMBERS)}")
    message = pb.RemovalRequest(name=f"{PREFIX}{name}", plan=plan, state=pb.REMOVAL_STATE_QUEUED)
    if after:
        message.state = pb.REMOVAL_STATE_SUCCEEDED
        message.result.model_fingerprint, message.result.new_model_fingerprint = before, after
        message.result.utility_loss = 2.0
    return replace(RemovalRecord(message, name, "", "root"), **fields)


def model(name: str, parent: str = "") -> ModelRecord:
    return ModelRecord(
        name, name.partition("-")[0], "t", "s", "safetensors", "llama", 1, 1, "float32", 1, 1, False, f"/{name}",
        parent=parent,
    )  # fmt: skip


def names(records) -> list[str]:
    return [each.id for each in records]


def test_all_requests_of_a_run_led_to_what_it_made_and_its_cost_counts_once(catalogues):
    requests, models = catalogues
    for each in (
        model("root"),
        model("one", "root"),
        model("two-a", "one"),
        model("two-b", "one"),
        model("three", "two-b"),
    ):
        models.put(each)
    for each in (
        record("first", "root", "one"),
        record("a", "one", "two"),
        record("same-as-a-later", "one", "two", "sha256:same"),
        record("same-as-a-latest", "one", "two", "sha256:same"),
        record("b", "one", "two"),
        record("aside", "one", "elsewhere"),
        record("c", "two", "three"),
    ):
        requests.put("local", each)
    past = past_of(requests, "local", models, models.get("three"))
    assert names(past.requests) == ["c", "b", "same-as-a-latest", "a", "first"]
    assert names(past.line) == ["c", "b", "first"]
    assert budget.lost(past) == 6.0
    assert names(past.others) == ["aside"]
    # Also from the model that only one of them has registered.
    assert names(past_of(requests, "local", models, models.get("two-a")).requests) == names(past.requests)[1:]
    # To one of the run, whose turn comes after the others', they are no other requests; to anybody else they are.
    past = past_of(requests, "local", models, models.get("one"))
    assert names(past.requests) == ["first"]
    assert past.others_than([f"{PREFIX}{name}" for name in ("a", "b", "mine")]) == len(past.others) - 2 == 4


def test_those_that_wait_behind_are_found_in_their_order(catalogues, settings):
    requests, _ = catalogues
    client = redis.Redis.from_url(settings.redis_url)
    jobs = JobStore(client, settings)
    settler, line = Settler(requests, jobs, settings), Line(client, settings.redis_prefix, "root")

    def stands(name: str, principal: str = "local", **fields) -> str:
        sent = pb.CreateRemovalRequestRequest(removal_id=name)
        job = jobs.submit(job_spec("unlearning.remove", sent, settings, principal=principal))
        line.join(principal, name)
        requests.put(principal, record(name).changed(operation=job.name, **fields))
        return job.id

    stands("before")
    stands("first")
    stands("not-mine", "other")
    stands("second")
    attempted = stands("third")
    cancelled = stands("cancelled")
    stands("in-a-run", shared_run=pb.SharedRun(requests=["x"]))
    stands("otherwise", plan=changed(algorithm="ga"))
    stands("held", state=pb.REMOVAL_STATE_HELD)
    line.join("local", "gone")
    stands("last")
    jobs.cancel(cancelled)
    # An attempt at this moment is one that will find the first before it.
    assert jobs.claim(attempted, "an owner", "a worker") is not None
    assert names(waiting(settler, line, "local", "first", PLAN)) == ["second", "third", "last"]
    assert names(waiting(settler, line, "local", "last", PLAN)) == []
    assert names(waiting(settler, line, "local", "of-nobody", PLAN))[:2] == ["before", "first"]
    assert names(waiting(settler, line, "other", "of-nobody", PLAN)) == ["not-mine"]


def test_report_and_page_name_those_that_were_trained_together(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    alone, shared = request(), request()
    shared.result.trained_together.extend([f"{PREFIX}vault", f"{PREFIX}cellar"])
    for found in (alone, shared):
        show(found)
        page = re.sub(r"<[^>]+>", " ", removal_page(found))
        together = bool(found.result.trained_together)
        assert ("vault, cellar" in capsys.readouterr().out) == together
        assert ("vault, cellar" in page) == ("Trained together" in page) == together
