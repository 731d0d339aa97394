"""Data sets of a request: read without a word in an error, and as sequences, bounded before they are made."""

import traceback
from pathlib import Path

import pytest
import redis

from palimpsest.artifacts import ArtifactStore
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from services.unlearning.metrics.items import Text
from services.unlearning.removal.datasets import sets
from services.unlearning.removal.datasets.sets import DataSet, encode_set, read_set
from tests import canaries


class Words:
    """A tokenizer that gives every word a number."""

    def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
        return {"input_ids": [len(word) for word in text.split()]}

    def encode(self, text: str, **_: object) -> list[int]:
        return [len(word) for word in text.split()]


def documents(*texts: str) -> DataSet:
    each = tuple(Text(f"d{at}", text) for at, text in enumerate(texts))
    return DataSet("plan.forget", "sha256:0", each, ())


def test_long_documents_are_cut_so_that_each_token_but_the_first_is_predicted_once():
    made = encode_set(documents("a bb ccc dddd eeeee"), Words(), 3)
    assert [example.ids for example in made.examples] == [(1, 2, 3), (3, 4, 5)]


@pytest.mark.parametrize(("bound", "value"), [("MOST_EXAMPLES", 3), ("MOST_TOKENS", 8)])
def test_more_than_a_request_may_have_is_refused_before_it_is_made(monkeypatch, bound, value):
    monkeypatch.setattr(sets, bound, value)
    fits = encode_set(documents("a bb ccc dddd"), Words(), 2)
    assert len(fits.examples) == 3
    with pytest.raises(InvalidArgument) as refused:
        encode_set(documents("a bb ccc dddd eeeee", "a bb ccc dddd"), Words(), 2)
    assert refused.value.reason == Reason.DATASET_INVALID
    assert "split" in refused.value.message


@pytest.fixture
def artifacts(valkey: ValkeyServer, redis_prefix: str, tmp_path: Path) -> ArtifactStore:
    client = redis.Redis.from_url(valkey.url)
    return ArtifactStore(tmp_path.as_uri(), client, prefix=redis_prefix, local=tmp_path / "local")


@pytest.mark.parametrize("name", canaries.OF_REMOVALS)
def test_an_error_of_a_line_repeats_nothing_of_it(artifacts, name):
    digest = artifacts.put_bytes(canaries.OF_REMOVALS[name]).digest
    with pytest.raises(InvalidArgument) as refused:
        read_set(artifacts, digest, "forget")
    assert refused.value.reason == Reason.DATASET_LINE_INVALID
    assert refused.value.metadata == {"file": "forget", "line": "1"}
    said = "".join(traceback.format_exception(refused.value)) + str(refused.value.metadata)
    assert not [word for word in canaries.SHOWN if word in said], said


def test_a_tokenizer_that_fails_does_not_quote_the_text():
    class PanicException(BaseException):
        """Of the tokenizers library's, as far as callers see."""

    class Fails(Words):
        def encode(self, text: str, **_: object) -> list[int]:
            raise PanicException(f"byte index 1 is not a char boundary of `{text}`")

    with pytest.raises(FailedPrecondition) as failed:
        encode_set(documents(canaries.WORD), Fails(), 4)
    assert failed.value.reason == Reason.MODEL_INVALID
    assert canaries.WORD not in "".join(traceback.format_exception(failed.value))


def test_more_entries_than_sequences_are_refused_while_they_are_read(artifacts, monkeypatch):
    monkeypatch.setattr(sets, "MOST_EXAMPLES", 3)
    lines = [b'{"id": "a%d", "text": "x"}\n' % number for number in range(4)]
    assert read_set(artifacts, artifacts.put_bytes(b"".join(lines[:3])).digest, "forget").count == 3
    broken = b"".join(lines) + b"{\n"
    with pytest.raises(InvalidArgument) as refused:
        read_set(artifacts, artifacts.put_bytes(broken).digest, "forget")
    assert refused.value.reason == Reason.DATASET_INVALID
