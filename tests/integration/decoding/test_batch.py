"""The batch job's handler with real artefacts: order, bad lines, being killed and going on."""

import json
from collections.abc import Callable

import pytest
import redis

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.engine.sequence import SequenceState
from palimpsest.errors import Cancelled, FailedPrecondition, Internal, InvalidArgument, Reason, Unavailable
from palimpsest.jobs import JobContext, WorkerResources
from palimpsest.models import register
from palimpsest.progress import Drain, NullProgress
from services.decoding import tasks


class Watched(NullProgress):
    """Remembers what was reported, and raises when told to."""

    def __init__(self, resume=None, stop: Callable[[int], None] = lambda done: None) -> None:
        super().__init__(resume)
        self.steps: list[tuple[int, int]] = []
        self.published: list[str] = []
        self._stop = stop

    def step(self, done: int, total: int, stage: str = "") -> None:
        self.steps.append((done, total))
        self._stop(done)

    def publish(self, digest: str) -> None:
        self.published.append(digest)


@pytest.fixture
def resources(settings, tiny_model) -> WorkerResources:
    quick = settings.model_copy(update={"dtype": "float32", "device": "cpu", "engine_cache_bytes": 8 << 20})
    resources = WorkerResources(quick, redis.Redis.from_url(quick.redis_url))
    register("tiny", str(tiny_model), resources.models, quick, NullProgress())
    return resources


def run(resources, lines: list[object], progress=None, **fields) -> tuple[pb.GenerateBatchResponse, bytes]:
    data = b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)
    request = pb.GenerateBatchRequest(
        model="tiny", input=resources.artifacts.put_bytes(data).digest, **{"max_tokens": 8, **fields}
    )
    job = JobContext("job", "me", 1, progress or Watched(), resources)
    response = tasks.generate_batch(request, job)
    return response, resources.artifacts.read_bytes(response.output.digest)


def test_one_line_out_for_each_line_in(resources):
    lines = [
        {"id": "a", "prompt": "the quick"},
        {"prompt": "fox", "n": 2, "temperature": 1.0, "seed": 9, "max_tokens": 3},
        {"id": 7, "messages": [{"role": "user", "content": "hi"}], "logprobs": 1},
        {"id": "bad", "prompt": "x", "temprature": 1},
        b"this is not JSON\n",
        b"[]\n",
        {"id": "long", "prompt": "x", "max_tokens": 5000},
        {"prompt": ""},
        {"prompt": "x", "messages": [{"role": "user", "content": "y"}]},
        {"id": "last", "prompt": "dog", "stop": "zzz"},
    ]
    progress = Watched()
    response, data = run(resources, lines, progress)
    out = [json.loads(line) for line in data.splitlines()]
    assert [o["index"] for o in out] == list(range(10))
    assert [o["id"] for o in out] == ["a", None, 7, "bad", None, None, "long", None, None, "last"]
    errors = {o["index"]: o["error"]["reason"] for o in out if "error" in o}
    assert errors == {
        3: "BATCH_LINE_INVALID",
        4: "BATCH_LINE_INVALID",
        5: "BATCH_LINE_INVALID",
        6: "PROMPT_TOO_LONG",
        7: "PROMPT_EMPTY",
        8: "BATCH_LINE_INVALID",
    }
    assert "temprature" in out[3]["error"]["message"]
    assert (response.succeeded, response.failed) == (4, 6)
    assert len(out[1]["outputs"]) == 2
    assert out[1]["outputs"][0]["generated_tokens"] <= 3
    assert len(out[2]["outputs"][0]["logprobs"]) == out[2]["outputs"][0]["generated_tokens"]
    made = [o for line in out for o in line.get("outputs", [])]
    assert response.generated_tokens == sum(o["generated_tokens"] for o in made)
    assert progress.steps[-1] == (10, 10)
    assert response.output.digest in progress.published


SAMPLED = {"sampling": pb.SamplingConfig(temperature=1.3)}


def test_a_batch_that_was_stopped_goes_on_to_the_same_bytes(resources, monkeypatch):
    lines = [{"id": n, "prompt": f"the fox {n % 5}"} for n in range(40)]
    expected = run(resources, lines, **SAMPLED)
    assert len({json.loads(line)["outputs"][0]["seed"] for line in expected[1].splitlines()}) == 40

    def drain(done: int) -> None:
        if done == 17:
            raise Drain

    first = Watched(stop=drain)
    with pytest.raises(Drain):
        run(resources, lines, first, **SAMPLED)
    state = first.resume()
    assert state is not None
    assert state["lines"] == 17
    second = Watched(resume=json.loads(json.dumps(state)))
    response, data = run(resources, lines, second, **SAMPLED)
    assert data == expected[1]
    assert response == expected[0] or response.output.digest == expected[0].output.digest
    assert min(done for done, total in second.steps if total) == 17

    monkeypatch.setattr(tasks, "_LINES_PER_CHECKPOINT", 4)

    def die(done: int) -> None:
        if done == 11:
            raise RuntimeError("power cut")

    third = Watched(stop=die)
    with pytest.raises(RuntimeError):
        run(resources, lines, third, **SAMPLED)
    state = third.resume()
    assert state is not None
    assert state["lines"] == 8
    response, data = run(resources, lines, Watched(resume=state), **SAMPLED)
    assert data == expected[1]
    assert (response.succeeded, response.generated_tokens) == (
        expected[0].succeeded,
        expected[0].generated_tokens,
    )


def test_a_cancelled_batch_leaves_nothing_in_the_engine(resources):
    def cancel(done: int) -> None:
        if done == 3:
            raise Cancelled(Reason.JOB_CANCELLED, "cancelled")

    with pytest.raises(Cancelled):
        run(
            resources,
            [{"prompt": f"the {n}"} for n in range(30)],
            Watched(stop=cancel),
            max_tokens=200,
        )
    response, _ = run(resources, [{"prompt": "the"}])
    assert response.succeeded == 1


def test_an_empty_batch_is_refused(resources):
    with pytest.raises(InvalidArgument) as caught:
        run(resources, [])
    assert caught.value.reason == "BATCH_EMPTY"


def test_a_last_line_without_an_end_counts(resources):
    response, data = run(resources, [b'{"prompt":"the"}\n{"prompt":"fox"}'])
    assert response.succeeded == 2
    assert len(data.splitlines()) == 2


@pytest.mark.parametrize(
    "error",
    [
        Internal(Reason.REQUEST_FAILED, "The request failed."),
        FailedPrecondition(Reason.MODEL_INVALID, "This model cannot do that."),
    ],
    ids=["internal", "precondition"],
)
def test_an_error_of_one_line_in_the_engine_ends_that_line_alone(resources, monkeypatch, error):
    lines = [{"id": n, "prompt": "the quick", "seed": 13 if n == 1 else n} for n in range(4)]
    _, expected = run(resources, lines)
    choose = SequenceState.choose

    def fail_for_one(self, output, row):
        if self.request.sampling.seed == 13 and self.generated == 3:
            raise error
        return choose(self, output, row)

    monkeypatch.setattr(SequenceState, "choose", fail_for_one)
    response, data = run(resources, lines)
    out, undisturbed = data.splitlines(), expected.splitlines()
    assert json.loads(out[1]) == {
        "id": 1,
        "index": 1,
        "error": {"code": error.code.name, "reason": error.reason, "message": error.message},
    }
    assert [out[n] for n in (0, 2, 3)] == [undisturbed[n] for n in (0, 2, 3)]
    assert (response.succeeded, response.failed) == (3, 1)


@pytest.mark.parametrize("reason", [Reason.ENGINE_FAILED, Reason.SHUTTING_DOWN])
def test_an_engine_that_stops_ends_the_job(resources, monkeypatch, reason):
    def stop(self, output, row):
        raise Unavailable(reason, "The engine is no more.")

    monkeypatch.setattr(SequenceState, "choose", stop)
    with pytest.raises(Unavailable) as stopped:
        run(resources, [{"prompt": "the quick"}] * 3)
    assert stopped.value.reason == reason


BAD_LINES = {
    "half a surrogate pair as id": b'{"id": "\\ud800", "prompt": "x"}',
    "half a surrogate pair in the prompt": b'{"id": "a", "prompt": "\\udc00"}',
    "half a surrogate pair in a key": b'{"id": "a", "prompt": "x", "\\ud800": 1}',
    "half a surrogate pair as stop": b'{"id": "a", "prompt": "x", "stop": ["\\ud800"]}',
    "nested": b"[" * 100_000,
    "nested in a field": b'{"id": "a", "prompt": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}",
    "nested id": b'{"prompt": "x", "id": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "an id of 5,000 digits": b'{"prompt": "x", "id": ' + b"9" * 5000 + b"}",
    "an id beyond 64 bits": b'{"prompt": "x", "id": 18446744073709551616}',
    "an id that is a fraction": b'{"prompt": "x", "id": 1.5}',
    "an id that is truth": b'{"prompt": "x", "id": true}',
    "UTF-16": '{"prompt": "x"}'.encode("utf-16"),
    "not UTF-8": b'{"id": "a", "prompt": "\xff"}',
    "two prompts": b'{"prompt": "x", "prompt": "y"}',
    "text after it": b'{"prompt": "x"} {"prompt": "y"}',
    "a long unknown key": b'{"prompt": "x", "' + b"k" * 100_000 + b'": 1}',
}
FIELDS = ["temperature", "top_k", "top_p", "min_p", "seed", "n", "max_tokens", "logprobs"]
NUMBERS = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "-1e999",
    "1e308",
    "-1e308",
    "-1",
    "1.5",
    "9" * 5000,
    '"1"',
    "true",
]
NUMBERS += ["18446744073709551616", "9223372036854775808", "4294967296", "[1]", "{}"]


def test_a_line_that_cannot_be_read_ends_alone(resources):
    good = {"id": "good", "prompt": "the quick"}
    lines: list[object] = [good]
    for line in BAD_LINES.values():
        lines += [line + b"\n", good]
    response, data = run(resources, lines)
    out = [json.loads(line) for line in data.splitlines()]
    assert len(out) == len(lines)
    assert [o["error"]["reason"] for o in out[1::2]] == ["BATCH_LINE_INVALID"] * len(BAD_LINES)
    assert all(10 < len(o["error"]["message"]) < 1000 for o in out[1::2])
    assert all(o["id"] == "good" for o in out[::2])
    assert len({o["outputs"][0]["text"] for o in out[::2]}) == 1
    assert (response.succeeded, response.failed) == (len(BAD_LINES) + 1, len(BAD_LINES))


def test_a_number_no_field_takes_ends_its_line_alone(resources):
    lines = [
        f'{{"id": "{field}", "prompt": "the", "{field}": {number}}}\n'.encode()
        for field in FIELDS
        for number in NUMBERS
    ]
    taken = {
        ("temperature", "1.5"),
        ("seed", "9223372036854775808"),
        ("seed", "4294967296"),
        ("logprobs", "-1"),
    }
    response, data = run(resources, lines)
    out = [json.loads(line) for line in data.splitlines()]
    asked = [(field, number) for field in FIELDS for number in NUMBERS]
    for (field, number), line in zip(asked, out, strict=True):
        assert ("outputs" in line) == ((field, number) in taken), (field, number, line)
        if "error" in line:
            assert line["error"]["reason"] in ("BATCH_LINE_INVALID", "PROMPT_TOO_LONG"), line
    assert response.succeeded == len(taken)


@pytest.mark.parametrize("temperature", ["1e-308", "5e-324", "1e-45", "1e-39", "1e-21", "-0.0", "0"])
def test_a_temperature_next_to_nothing_is_greedy(resources, temperature):
    greedy = {"prompt": "the quick", "seed": 1}
    line = f'{{"prompt": "the quick", "seed": 1, "temperature": {temperature}}}\n'.encode()
    _, data = run(resources, [greedy, line, greedy])
    out = [json.loads(line)["outputs"] for line in data.splitlines()]
    assert out[0] == out[1] == out[2]


@pytest.mark.parametrize("extreme", ["1e-19", "1e-9", "100", "99.999999999"])
def test_extremes_that_are_allowed_are_generated(resources, extreme):
    rest = '"prompt": "the", "seed": 18446744073709551615, "top_p": 1e-9, "min_p": 5e-324'
    line = f'{{"temperature": {extreme}, {rest}}}\n'.encode()
    response, _ = run(resources, [line, {"prompt": "the"}])
    assert response.succeeded == 2


def test_blank_lines_are_left_out_and_not_counted(resources):
    lines = [b"\n", {"id": "a", "prompt": "the"}, b"  \r\n", b"\t\n", {"id": "b", "prompt": "fox"}, b"\n"]
    response, data = run(resources, lines)
    assert [(o["id"], o["index"]) for o in map(json.loads, data.splitlines())] == [("a", 0), ("b", 1)]
    assert (response.succeeded, response.failed) == (2, 0)
    with pytest.raises(InvalidArgument) as caught:
        run(resources, [b"\n", b" \n"])
    assert caught.value.reason == Reason.BATCH_EMPTY


def test_a_line_may_be_named_by_custom_id(resources):
    lines = [
        {"custom_id": "mine", "prompt": "the"},
        {"custom_id": 7, "prompt": "the", "tempreature": 1},
        {"custom_id": "a", "id": "b", "prompt": "the"},
        {"prompt": "the"},
    ]
    _, data = run(resources, lines)
    out = [json.loads(line) for line in data.splitlines()]
    assert (out[0]["id"], out[0]["custom_id"]) == ("mine", "mine")
    assert "outputs" in out[0]
    assert (out[1]["id"], out[1]["custom_id"], out[1]["error"]["reason"]) == (7, 7, "BATCH_LINE_INVALID")
    assert "not both" in out[2]["error"]["message"]
    assert out[3]["id"] is None
    assert "custom_id" not in out[3]


def test_lines_are_constrained_as_requests_are(resources):
    schema = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}}}
    lines = [
        {"prompt": "the", "structured": {"json_schema": {**schema, "required": ["a"]}}, "max_tokens": 60},
        {"prompt": "the", "structured": {"choice": ["yes", "no"]}},
        {"prompt": "the"},
        {"prompt": "the", "logit_bias": {"70": 100}, "max_tokens": 3},
        {"prompt": "the", "min_tokens": 4, "max_tokens": 3},
        {"prompt": "the", "structured": {"regex": "("}},
        {"prompt": "the", "structured": {"regex": "a", "choice": ["a"]}},
        {"prompt": "the", "logit_bias": {"fox": 1}},
        {"prompt": "the", "presence_penalty": 3},
        {"prompt": "the", "repetition_penalty": 1.5, "bad_words": ["fox"], "stop_token_ids": [70]},
    ]
    _, data = run(resources, lines, structured={"regex": "[xyz]{2}"}, bad_words=["dog"])
    out = [json.loads(line) for line in data.splitlines()]
    texts = [o["outputs"][0]["text"] if "outputs" in o else o["error"]["reason"] for o in out]
    assert 0 <= json.loads(texts[0])["a"] <= 9
    assert texts[1] in ("yes", "no")
    assert set(texts[2]) <= set("xyz")
    assert len(texts[2]) == 2
    assert texts[4:9] == [
        "MIN_TOKENS_TOO_LARGE",
        "STRUCTURED_INVALID",
        "BATCH_LINE_INVALID",
        "BATCH_LINE_INVALID",
        "BATCH_LINE_INVALID",
    ]
    assert set(texts[9]) <= set("xyz")
