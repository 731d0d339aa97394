"""What others do not have: quotes with their sources, stored contexts, drafts."""

import hashlib
import json
import uuid

import openai
import pytest

from palimpsest.client.corpora import NewDocument

DOCUMENTS = {
    "fox": "the quick brown fox jumps over the lazy dog and the lazy dog jumps over the brown fox. " * 4,
    "café": "naïve café — 雪の🦊 jumps over 雪 and the quick émigré; ça va. " * 4,
}
EAGER = {"mu": 1.0, "alpha": 1.0, "tau": 0.1, "neighbors": 32, "passages": 16}
"""Quotes whatever it finds: a random model's own words are worth nothing."""


@pytest.fixture
async def corpus(grpc, tiny) -> str:
    made = await grpc.datastore.create_corpus(
        corpus_id=f"c-{uuid.uuid4().hex[:8]}", model=tiny, encoder="hashed-words", passage_tokens=24,
        left_context=8,
    )  # fmt: skip
    new = [NewDocument(name, text, title=name.title()) for name, text in DOCUMENTS.items()]
    async for answer in grpc.datastore.add(made.name, new):
        assert not answer.HasField("error")
    return made.name


def check(text: str, annotations: list) -> None:
    """Every quote is byte for byte where it says it is, in the text and in its document."""
    assert annotations
    for each in annotations:
        cited = each["url_citation"]
        quoted = text[cited["start_index"] : cited["end_index"]].encode()
        assert quoted
        assert hashlib.sha256(quoted).hexdigest() == each["sha256"]
        for source in each["sources"]:
            document = DOCUMENTS[source["document"]].encode()
            assert document[source["byte_start"] : source["byte_end"]] == quoted
            assert hashlib.sha256(document).hexdigest() == source["document_sha256"]


async def test_quotes_come_back_as_annotations_with_exact_offsets(ask, tiny, corpus):
    body = {"corpora": [corpus], "nest": EAGER}
    made = ask.chat.completions.create(
        model=tiny,
        messages=[{"role": "user", "content": "the quick émigré"}],
        temperature=0,
        max_tokens=40,
        extra_body=body,
    )
    message = made.choices[0].message
    check(message.content, [each.model_dump() for each in message.annotations])
    assert message.annotations[0].type == "url_citation"
    completed = ask.completions.create(
        model=tiny, prompt="the quick brown", temperature=0, max_tokens=40, extra_body=body
    )
    check(completed.choices[0].text, completed.choices[0].annotations)


async def test_a_stream_tells_of_quotes_as_they_grow(ask, tiny, corpus):
    text, last = "", {}
    for chunk in ask.completions.create(
        model=tiny, prompt="the quick brown", temperature=0, max_tokens=40, stream=True,
        extra_body={"corpora": [corpus], "nest": EAGER},
    ):  # fmt: skip
        text += chunk.choices[0].text
        for each in (chunk.choices[0].model_extra or {}).get("annotations", []):
            last[each["span_id"]] = each
    check(text, list(last.values()))


async def test_a_stored_context_is_continued(ask, grpc, tiny):
    text = "the quick brown fox jumps over the lazy dog. " * 12
    job = await grpc.codec.create_context(
        model=tiny, text=text, context_id=f"g-{uuid.uuid4().hex[:8]}", coding={"chunk_tokens": 64}
    )
    context = await job.result(timeout=120)
    fields = {"model": tiny, "temperature": 0, "max_tokens": 8}
    made = ask.completions.create(prompt="the quick", **fields, extra_body={"context": context.name})
    alone = ask.completions.create(prompt="the quick", **fields)
    assert made.usage.prompt_tokens > alone.usage.prompt_tokens
    chat = ask.chat.completions.create(
        messages=[{"role": "user", "content": "fox?"}], **fields, extra_body={"context": context.name}
    )
    assert chat.usage.prompt_tokens > made.usage.prompt_tokens


def test_drafts_are_the_choices_best_first(ask, tiny):
    made = ask.completions.create(
        model=tiny, prompt="the quick", max_tokens=6, extra_body={"drafts": {"k": 3, "strategy": "beam"}}
    )
    assert [choice.index for choice in made.choices] == [0, 1, 2]
    assert len({choice.text for choice in made.choices}) == 3
    scores = [choice.logprob for choice in made.choices]
    assert scores == sorted(scores, reverse=True)
    assert made.usage.prompt_tokens > 0


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"drafts": {"k": 0}}, "drafts.k"),
        ({"drafts": {"k": 11}}, "k"),
        ({"drafts": {"strategy": "psychic"}}, "drafts"),
        ({"drafts": {"colour": 1}}, "drafts.colour"),
        ({"drafts": {}, "stream": True}, "stream"),
        ({"drafts": {}, "logprobs": 2}, "logprobs"),
        ({"drafts": {}, "prompt": ["a", "b"]}, "prompt"),
        ({"drafts": {}, "echo": True}, "echo"),
        ({"nest": {"mu": 1}}, "nest"),
        ({"corpora": ["manual"]}, "corpora[0]"),
        ({"corpora": ["corpora/x"], "echo": True}, "echo"),
        ({"corpora": ["corpora/x"], "nest": {"colour": 1}}, "nest"),
        ({"context": "nonsense"}, "context"),
    ],
)
def test_what_is_wrong_is_named(http, tiny, fields, param):
    answer = http.post("/v1/completions", json={"model": tiny, "prompt": "a", "max_tokens": 2, **fields})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param, answer.text


def test_what_is_not_there_is_a_404(ask, tiny):
    for body in ({"corpora": ["corpora/absent"]}, {"context": "contexts/absent"}):
        with pytest.raises(openai.NotFoundError) as caught:
            ask.completions.create(model=tiny, prompt="a", extra_body=body)
        assert caught.value.code in ("corpus_not_found", "context_not_found")
        assert "absent" in json.dumps(caught.value.body)
