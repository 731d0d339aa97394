"""Files and batches through OpenAI's client, over the real stack."""

import json
import uuid

import openai
import pytest

from tests.waiting import until

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
ENDED = {"completed", "failed", "cancelled", "expired"}


def lines(*made) -> bytes:
    return b"".join(json.dumps(each, ensure_ascii=False).encode() + b"\n" for each in made)


def request(name, url=TEXT, **body) -> dict:
    return {"custom_id": name, "method": "POST", "url": url, "body": body}


def uploaded(ask, content: bytes, filename="in.jsonl"):
    return ask.files.create(file=(filename, content), purpose="batch")


def submitted(ask, *made, endpoint=TEXT, **fields):
    file = uploaded(ask, lines(*made))
    return ask.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", **fields)


def ended(ask, id):
    until(lambda: ask.batches.retrieve(id).status in ENDED, timeout=120)
    return ask.batches.retrieve(id)


def read(ask, id) -> dict[str, dict]:
    found = [json.loads(line) for line in ask.files.content(id).content.splitlines()]
    return {each["custom_id"]: each for each in found}


def test_a_file_is_kept_listed_read_and_deleted(ask):
    content = lines({"a": "é🦊"}) + b"no JSON, and no newline at its end"
    made, twin = uploaded(ask, content, "été.jsonl"), uploaded(ask, content)
    assert made.id != twin.id
    assert (made.object, made.filename, made.purpose) == ("file", "été.jsonl", "batch")
    assert (made.bytes, made.status) == (len(content), "processed")
    assert ask.files.retrieve(made.id) == made
    assert ask.files.content(made.id).content == content
    listed = [file.id for file in ask.files.list(limit=1)]  # turns the pages
    assert {made.id, twin.id} <= set(listed)
    assert [file.id for file in ask.files.list(order="asc")] == listed[::-1]
    assert made.id in [file.id for file in ask.files.list(purpose="batch")]
    assert ask.files.list(purpose="fine-tune").data == []
    assert ask.files.delete(made.id).deleted
    for act in (ask.files.retrieve, ask.files.content, ask.files.delete):
        with pytest.raises(openai.NotFoundError) as caught:
            act(made.id)
        assert caught.value.code == "file_not_found"
    assert ask.files.content(twin.id).content == content  # equal bytes, another file


def test_a_file_larger_than_one_message_comes_back(ask):
    content = b"".join(b"%d\n" % number for number in range(500_000))
    made = uploaded(ask, content)
    assert ask.files.content(made.id).content == content
    ask.files.delete(made.id)


@pytest.mark.parametrize(
    ("form", "status", "param"),
    [
        ({"data": {"purpose": "fine-tune"}, "files": {"file": b"a"}}, 400, "purpose"),
        ({"data": {}, "files": {"file": b"a"}}, 400, "purpose"),
        ({"data": {"purpose": "batch"}, "files": {"other": b"a"}}, 400, "other"),
        ({"data": {"purpose": "batch"}, "files": {"file": b""}}, 400, "file"),
        ({"data": {"purpose": "batch", "expires_after[anchor]": "created_at"}, "files": {"file": b"a"}}, 400,
         "expires_after[anchor]"),
        ({"data": {"purpose": "batch"}}, 415, None),
        ({"content": b"--x", "headers": {"content-type": "multipart/form-data"}}, 400, None),
        ({"content": b"no form", "headers": {"content-type": "multipart/form-data; boundary=x"}}, 400, None),
    ],
)  # fmt: skip
def test_a_form_that_is_no_upload_is_refused(http, form, status, param):
    answer = http.post("/v1/files", **form)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text


@pytest.mark.parametrize("endpoint", [TEXT, CHAT])
def test_answers_of_a_batch_are_those_of_the_same_requests(ask, tiny, endpoint):
    fields = {"model": tiny, "temperature": 0, "max_tokens": 6}
    words = {"one": "the quick", "two": "é🦊", "three": "a lazy dog"}

    def asked(word):
        return {"messages": [{"role": "user", "content": word}]} if endpoint == CHAT else {"prompt": word}

    made = [request(name, endpoint, **fields, **asked(word)) for name, word in words.items()]
    batch = submitted(ask, *made, endpoint=endpoint, metadata={"of": "tests"})
    assert batch.status in ("validating", "in_progress", "completed")
    done = ended(ask, batch.id)
    assert (done.status, done.endpoint, done.metadata) == ("completed", endpoint, {"of": "tests"})
    counts = done.request_counts
    assert (counts.total, counts.completed, counts.failed) == (3, 3, 0)
    assert done.created_at <= done.in_progress_at <= done.completed_at <= done.expires_at
    assert done.error_file_id is None
    found = read(ask, done.output_file_id)
    assert list(found) == list(words)
    resource = ask.chat.completions if endpoint == CHAT else ask.completions
    for name, word in words.items():
        response = found[name]["response"]
        assert (response["status_code"], found[name]["error"]) == (200, None)
        alone = json.loads(resource.with_raw_response.create(**fields, **asked(word)).text)
        assert response["body"]["choices"] == alone["choices"]
        for count in ("prompt_tokens", "completion_tokens", "total_tokens"):
            assert response["body"]["usage"][count] == alone["usage"][count]
        assert response["body"]["object"] == alone["object"]
    file = ask.files.retrieve(done.output_file_id)
    assert file.purpose == "batch_output"
    assert file.bytes == len(ask.files.content(done.output_file_id).content)
    assert batch.id in [each.id for each in ask.batches.list(limit=1)]


def test_lines_that_are_no_requests_and_lines_that_fail_are_in_the_error_file(ask, tiny):
    batch = submitted(
        ask,
        request("good", model=tiny, prompt="the", max_tokens=2),
        request("unknown", model=tiny, prompt="the", colour="red"),
        request("good", model=tiny, prompt="again"),
        request("elsewhere", CHAT, model=tiny, messages=[]),
        request("long", model=tiny, prompt="the " * 9000, max_tokens=2),
        {"custom_id": "bodyless", "method": "POST", "url": TEXT},
        request("streamed", model=tiny, prompt="the", stream=True),
    )
    done = ended(ask, batch.id)
    assert done.status == "completed"
    assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (7, 1, 6)
    assert list(read(ask, done.output_file_id)) == ["good"]
    errors = {
        name: (each["response"]["status_code"], each["response"]["body"]["error"])
        for name, each in read(ask, done.error_file_id).items()
    }
    assert {name: (status, error["param"]) for name, (status, error) in errors.items()} == {
        "unknown": (400, "colour"),
        "good": (400, "custom_id"),
        "elsewhere": (400, "url"),
        "bodyless": (400, "body"),
        "streamed": (400, "stream"),
        "long": (400, None),
    }
    assert errors["long"][1]["code"] == "prompt_too_long"
    ask.files.retrieve(done.error_file_id)


def test_a_repeated_request_with_a_key_is_one_batch(ask, tiny):
    file = uploaded(ask, lines(request("a", model=tiny, prompt="the", max_tokens=2)))
    key = {"Idempotency-Key": uuid.uuid4().hex}
    fields = {"input_file_id": file.id, "endpoint": TEXT, "completion_window": "24h"}
    first = ask.batches.create(**fields, extra_headers=key)
    again = ask.batches.create(**fields, extra_headers=key)
    other = ask.batches.create(**fields)
    assert first.id == again.id != other.id
    assert first.created_at == again.created_at
    one, two = ended(ask, first.id), ended(ask, other.id)
    assert one.status == two.status == "completed"
    assert ask.files.content(one.output_file_id).content == ask.files.content(one.output_file_id).content
    changed = uploaded(ask, lines(request("a", model=tiny, prompt="other", max_tokens=2)))
    with pytest.raises(openai.BadRequestError) as caught:
        ask.batches.create(**{**fields, "input_file_id": changed.id}, extra_headers=key)
    assert caught.value.code == "idempotency_key_reused"


def test_a_batch_is_cancelled(ask, tiny):
    body = {"model": tiny, "prompt": "the quick", "max_tokens": 1900, "ignore_eos": False, "n": 8}
    batch = submitted(ask, *(request(f"r{number}", **body) for number in range(64)))
    assert ask.batches.cancel(batch.id).status in ("cancelling", "cancelled")
    done = ended(ask, batch.id)
    assert done.status == "cancelled"
    assert done.cancelled_at >= done.created_at
    assert ask.batches.cancel(batch.id).status == "cancelled"


def test_what_a_cancelled_batch_had_answered_can_be_read(ask, tiny):
    short = [request(f"s{at}", model=tiny, prompt=f"the {at}", max_tokens=1) for at in range(500)]
    failing = request("f", model=tiny, prompt="the", max_tokens=1_000_000)
    long = [request(f"l{at}", model=tiny, prompt="the quick", max_tokens=1900, n=8) for at in range(64)]
    batch = submitted(ask, failing, *short, *long)
    # The job publishes its results after 500 lines.
    until(lambda: ask.batches.retrieve(batch.id).request_counts.completed >= 500, timeout=120)
    ask.batches.cancel(batch.id)
    done = ended(ask, batch.id)
    assert done.status == "cancelled"
    found = read(ask, done.output_file_id)
    assert done.request_counts.completed == len(found) >= 499
    assert list(found)[:499] == [f"s{at}" for at in range(499)]
    assert list(read(ask, done.error_file_id)) == ["f"]
    assert done.request_counts.failed == 1


def test_an_ended_batch_is_not_cancelled(ask, tiny):
    batch = submitted(ask, request("a", model=tiny, prompt="the", max_tokens=2))
    ended(ask, batch.id)
    with pytest.raises(openai.BadRequestError) as caught:
        ask.batches.cancel(batch.id)
    assert caught.value.code == "batch_ended"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"endpoint": "/v1/embeddings"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"extra_body": {"output_expires_after": {"seconds": 5}}}, "output_expires_after"),
        ({"metadata": {"a": 5}}, "metadata.a"),
        ({"metadata": {"a" * 65: "b"}}, "metadata"),
        ({"endpoint": CHAT}, "input_file_id"),  # no line is for it
    ],
)
def test_what_is_wrong_with_a_batch_is_named(ask, tiny, changes, param):
    file = uploaded(ask, lines(request("a", model=tiny, prompt="the")))
    fields = {"input_file_id": file.id, "endpoint": TEXT, "completion_window": "24h", **changes}
    with pytest.raises(openai.BadRequestError) as caught:
        ask.batches.create(**fields)
    assert caught.value.param == param, caught.value


def test_a_second_model_and_a_model_that_is_not_there_are_refused(ask, tiny):
    with pytest.raises(openai.BadRequestError) as second:
        submitted(ask, request("a", model=tiny, prompt="the"), request("b", model="other", prompt="the"))
    assert second.value.code == "mismatched_model"
    assert "Line 2" in second.value.message
    with pytest.raises(openai.NotFoundError) as absent:
        submitted(ask, request("a", model="absent", prompt="the"))
    assert absent.value.code == "model_not_found"


def test_ids_that_are_not_there_are_404s(ask, tiny):
    digits = "0" * 64
    for id in (f"file-{digits}", "file-abc", "nonsense", f"file-output-{digits}", f"file-errors-{digits}"):
        for act in (ask.files.retrieve, ask.files.content, ask.files.delete):
            with pytest.raises(openai.NotFoundError) as caught:
                act(id)
            assert caught.value.code == "file_not_found"
    for id in (f"batch_{digits}", "nonsense"):
        for act in (ask.batches.retrieve, ask.batches.cancel):
            with pytest.raises(openai.NotFoundError) as caught:
                act(id)
            assert caught.value.code == "batch_not_found"
    with pytest.raises(openai.NotFoundError) as caught:
        ask.batches.create(input_file_id=f"file-{digits}", endpoint=TEXT, completion_window="24h")
    assert caught.value.param == "input_file_id"


async def test_an_artefact_that_is_no_file_is_none(ask, grpc):
    stored = await grpc.artifacts.upload(b'{"object":"file"}\n')
    with pytest.raises(openai.NotFoundError):
        ask.files.content("file-" + stored.digest.removeprefix("sha256:"))


def test_an_output_is_not_an_input_and_is_not_deleted(ask, tiny):
    done = ended(ask, submitted(ask, request("a", model=tiny, prompt="the", max_tokens=2)).id)
    for act in (
        lambda: ask.batches.create(input_file_id=done.output_file_id, endpoint=TEXT, completion_window="24h"),
        lambda: ask.files.delete(done.output_file_id),
    ):
        with pytest.raises(openai.BadRequestError):
            act()


def test_lists_refuse_what_they_do_not_take(http):
    for path in ("/v1/files", "/v1/batches"):
        for name, value in (("limit", "0"), ("limit", "x"), ("after", "y"), ("colour", "red")):
            answer = http.get(path, params={name: value})
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, name)
