"""Vectors and reranking through OpenAI's client, compared with the encoder's own words."""

import math
import struct

import openai
import pytest

TEXTS = ["A cat sat on the mat.", "Stock prices fell sharply.", "The kitten was asleep on a rug."]


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


@pytest.mark.model
def test_vectors_are_of_unit_length_and_alike_where_texts_are(ask):
    made = ask.embeddings.create(model="all-minilm-l6-v2", input=TEXTS)
    vectors = [each.embedding for each in made.data]
    assert [each.index for each in made.data] == [0, 1, 2]
    assert all(
        len(vector) == 384 and math.isclose(cosine(vector, vector), 1, rel_tol=1e-5) for vector in vectors
    )
    assert cosine(vectors[0], vectors[2]) > 0.4 > cosine(vectors[0], vectors[1])
    assert made.usage.prompt_tokens == made.usage.total_tokens > 15
    assert made.model == "all-minilm-l6-v2"


@pytest.mark.model
async def test_numbers_and_base64_are_the_rooms_vectors(ask, grpc):
    plain = ask.embeddings.create(model="all-minilm-l6-v2", input=TEXTS[0], encoding_format="float")
    coded = ask.embeddings.create(model="all-minilm-l6-v2", input=[TEXTS[0]])  # base64 on the wire
    (room,) = (await grpc.datastore.embed(texts=TEXTS[:1])).vectors
    assert plain.data[0].embedding == pytest.approx(coded.data[0].embedding, abs=1e-7)
    assert plain.data[0].embedding == pytest.approx(struct.unpack("<384f", room.values), abs=1e-6)


def test_more_texts_than_one_call_takes_keep_their_order(ask):
    texts = [f"word{number}" for number in range(600)]
    made = ask.embeddings.create(model="hashed-words", input=texts)
    for at in (0, 255, 256, 599):
        alone = ask.embeddings.create(model="hashed-words", input=texts[at])
        assert made.data[at].embedding == alone.data[0].embedding


def test_the_likest_document_comes_first(http):
    body = {"model": "hashed-words", "query": "the cat", "documents": ["a dog", "the cat", {"text": "x"}][:2]}
    found = http.post("/v1/rerank", json=body).json()
    assert [each["index"] for each in found["results"]] == [1, 0]
    assert math.isclose(found["results"][0]["relevance_score"], 1, rel_tol=1e-5)
    objects = [{"text": "a dog"}, {"text": "the cat"}]
    one = http.post(
        "/v1/rerank", json={**body, "documents": objects, "top_n": 1, "return_documents": True}
    ).json()
    assert one["results"][0]["document"] == {"text": "the cat"}
    assert len(one["results"]) == 1


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"dimensions": 64}, "dimensions", "unsupported_field"),
        ({"input": []}, "input", "invalid_value"),
        ({"input": [[1, 2]]}, "input", "unsupported_field"),
        ({"input": [1, 2]}, "input", "unsupported_field"),
        ({"input": ["a", " "]}, "input[1]", "invalid_value"),
        ({"input": 5}, "input", "invalid_value"),
        ({"encoding_format": "hex"}, "encoding_format", "invalid_value"),
        ({"extra_body": {"truncate_prompt_tokens": 5}}, "truncate_prompt_tokens", "unsupported_field"),
    ],
)
def test_what_is_wrong_is_named(ask, fields, param, code):
    with pytest.raises(openai.BadRequestError) as caught:
        ask.embeddings.create(**{"model": "hashed-words", "input": "a", **fields})
    assert (caught.value.param, caught.value.code) == (param, code), caught.value


@pytest.mark.model
def test_a_text_that_would_be_cut_is_refused(ask):
    with pytest.raises(openai.BadRequestError) as caught:
        ask.embeddings.create(model="all-minilm-l6-v2", input=["short", "word " * 300])
    assert caught.value.param == "input[1]"
    assert caught.value.code == "prompt_too_long"
    assert "302" in caught.value.message


def test_an_encoder_that_is_not_there_is_a_model_that_is_not(ask):
    with pytest.raises(openai.NotFoundError) as caught:
        ask.embeddings.create(model="text-embedding-3-small", input="a")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"top_n": 0}, "top_n"),
        ({"documents": []}, "documents"),
        ({"max_chunks_per_doc": 2}, "max_chunks_per_doc"),
    ],
)
def test_what_is_wrong_with_reranking_is_named(http, fields, param):
    body = {"model": "hashed-words", "query": "a", "documents": ["b"], **fields}
    answer = http.post("/v1/rerank", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
