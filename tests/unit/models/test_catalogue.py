"""The catalogue keeps its order and its promises, also when several ask at once."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import redis

from palimpsest.api.models.v1.models_pb2 import RELATION_FINE_TUNED
from palimpsest.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PalimpsestError,
    Unavailable,
)
from palimpsest.models import ModelCatalogue, ModelRecord

RECORD = ModelRecord(
    model_id="a",
    fingerprint="sha256:1",
    tokenizer_fingerprint="sha256:2",
    source="/models/a",
    source_format="safetensors",
    architecture="LlamaForCausalLM",
    parameter_count=10,
    size_bytes=40,
    dtype="float32",
    context_length=128,
    vocab_size=7,
    has_chat_template=True,
    path="/models/a",
    create_time=1_700_000_000.25,
    labels={"team": "blue"},
)


def child(model_id, parent="", fingerprint="sha256:1"):
    return replace(
        RECORD, model_id=model_id, parent=parent, fingerprint=fingerprint, path=f"/models/{model_id}"
    )


def test_round_trip(catalogue):
    assert catalogue.put(RECORD) == RECORD
    assert catalogue.get("a") == RECORD


def test_message():
    message = replace(RECORD, parent="b", relation="RELATION_FINE_TUNED").message()
    assert (message.model_id, message.parent, message.relation) == ("a", "b", RELATION_FINE_TUNED)
    assert message.create_time.ToMilliseconds() == 1_700_000_000_250
    assert dict(message.labels) == {"team": "blue"}


def test_same_content_again_changes_nothing(catalogue):
    catalogue.put(RECORD)
    again = catalogue.put(replace(RECORD, create_time=9.0, labels={}, source="/elsewhere", path="/elsewhere"))
    assert again == replace(RECORD, path="/elsewhere"), "only where the files lie now"
    assert catalogue.get("a") == again
    assert len(catalogue.list()[0]) == 1


def test_other_content_is_refused(catalogue):
    catalogue.put(RECORD)
    with pytest.raises(AlreadyExists) as caught:
        catalogue.put(replace(RECORD, fingerprint="sha256:9"))
    assert caught.value.reason == "MODEL_EXISTS"
    assert catalogue.get("a") == RECORD


def test_absent(catalogue):
    for ask in (catalogue.get, catalogue.delete, catalogue.lineage):
        with pytest.raises(NotFound) as caught:
            ask("nobody")
        assert caught.value.reason == "MODEL_NOT_FOUND"


def test_pages_are_oldest_first(catalogue):
    names = [f"m{i}" for i in (5, 3, 9, 1, 7)]
    for name in names:
        catalogue.put(child(name))
    first, token = catalogue.list(2)
    catalogue.delete("m3")
    second, token = catalogue.list(2, token)
    third, end = catalogue.list(2, token)
    assert [r.model_id for r in first + second + third] == names
    assert end == ""


@pytest.mark.parametrize("token", ["x", "-1", "1.5", "inf", "(1"])
def test_foreign_page_tokens(catalogue, token):
    with pytest.raises(InvalidArgument):
        catalogue.list(0, token)


def test_lineage(catalogue):
    for name, parent in [("root", ""), ("tuned", "root"), ("other", "root"), ("unlearned", "tuned")]:
        catalogue.put(child(name, parent))
    lineage = catalogue.lineage("unlearned")
    assert [r.model_id for r in lineage.ancestors] == ["tuned", "root"]
    assert lineage.children == []
    assert [r.model_id for r in catalogue.lineage("root").children] == ["other", "tuned"]
    with pytest.raises(FailedPrecondition) as caught:
        catalogue.delete("root")
    assert caught.value.metadata["children"] == "other, tuned"
    for name in ("unlearned", "tuned", "other", "root"):
        catalogue.delete(name)
    assert catalogue.list() == ([], "")


def test_no_keys_remain(catalogue, valkey, redis_prefix):
    catalogue.put(child("root"))
    catalogue.put(child("tuned", "root"))
    catalogue.delete("tuned")
    catalogue.delete("root")
    assert redis.Redis.from_url(valkey.url).keys(f"{redis_prefix}*") == [
        f"{redis_prefix}models:next".encode()
    ]


def test_orphans_are_refused(catalogue):
    with pytest.raises(NotFound):
        catalogue.put(child("tuned", "nobody"))
    assert catalogue.list() == ([], "")


def outcome(call, *arguments):
    try:
        call(*arguments)
    except PalimpsestError as error:
        return error.reason
    return ""


def test_one_of_many_registrations_wins(catalogue):
    records = [replace(RECORD, fingerprint=f"sha256:{i}") for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda record: outcome(catalogue.put, record), records))
    assert sorted(outcomes) == [""] + ["MODEL_EXISTS"] * 7
    assert catalogue.get("a") == records[outcomes.index("")]


def test_a_parent_is_not_deleted_under_a_new_child(catalogue):
    with ThreadPoolExecutor(2) as pool:
        for i in range(50):
            catalogue.put(child(f"p{i}"))
            put = pool.submit(outcome, catalogue.put, child(f"c{i}", f"p{i}"))
            delete = pool.submit(outcome, catalogue.delete, f"p{i}")
            assert {put.result(), delete.result()} in ({"", "MODEL_HAS_CHILDREN"}, {"", "MODEL_NOT_FOUND"})


def test_uses(catalogue):
    catalogue.put(RECORD)
    assert catalogue.uses("/models/a")
    assert not catalogue.uses("/models/b")


def test_redis_away(tmp_path):
    catalogue = ModelCatalogue(redis.Redis(unix_socket_path=str(tmp_path / "none.sock"), retry=None), "p:")
    for ask in (catalogue.get, catalogue.delete):
        with pytest.raises(Unavailable):
            ask("a")
