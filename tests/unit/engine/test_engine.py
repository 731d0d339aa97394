"""The engine: same tokens as transformers, whatever runs beside; bounds; leaving."""

from dataclasses import replace

import pytest
import torch

from palimpsest.engine import Engine, Finish, Request, score
from palimpsest.engine.sequence import SequenceState
from palimpsest.errors import InvalidArgument, NotFound, Reason, ResourceExhausted, Unavailable
from palimpsest.lm import Sampling, load
from tests.waiting import until

from .collecting import Collector, Gate, run

PROMPTS = [
    "the quick brown",
    "fox",
    "jumps over the lazy dog the quick",
    "Fixtures every kind of test shares: a",
]


def prompt(engine: Engine, text: str) -> list[int]:
    return engine.model.tokenizer(text).input_ids


def generate(engine: Engine, ids: list[int], count: int) -> list[int]:
    with torch.inference_mode():
        out = engine.model.module.generate(
            torch.tensor([ids]), max_new_tokens=count, do_sample=False, eos_token_id=None, pad_token_id=0
        )
    return out[0, len(ids) :].tolist()


def greedy(ids: list[int], count: int = 64, **more) -> Request:
    return Request(ids, max_tokens=count, ignore_eos=True, **more)


def test_greedy_is_transformers_generate(make_engine):
    engine = make_engine()
    prompts = [prompt(engine, text) for text in PROMPTS]
    expected = [generate(engine, ids, 64) for ids in prompts]
    results = run(engine, *(greedy(ids) for ids in prompts))
    assert [r.ids() for r in results] == expected
    for result in results:
        assert result.finished().reason is Finish.LENGTH
        assert result.finished().generated_tokens == 64
        assert result.text() == result.finished().text


def test_results_do_not_depend_on_the_batch(make_engine):
    engine = make_engine(max_running=16)
    requests = [
        Request(
            prompt(engine, text * 9), Sampling(1.2, top_p=0.95, seed=n), n=1 + n % 2, max_tokens=20 + n, logprobs=2
        )
        for n, text in enumerate(PROMPTS * 2)
    ]  # fmt: skip
    alone = [run(engine, request)[0] for request in requests]
    engine.model.pool.forget_prefixes()
    together = run(engine, *requests)
    for a, b in zip(alone, together, strict=True):
        assert a.events[1:] == b.events[1:]


def test_sequences_of_a_request_differ_and_repeat(make_engine):
    engine = make_engine()
    request = Request(prompt(engine, "the"), Sampling(1.0, seed=5), n=4, max_tokens=12)
    first, second = run(engine, request)[0], run(engine, request)[0]
    texts = [first.finished(n).text for n in range(4)]
    assert len(set(texts)) == 4
    assert texts == [second.finished(n).text for n in range(4)]


def test_a_shared_prefix_is_read_once(make_engine):
    engine = make_engine()
    shared = prompt(engine, "the lazy dog jumps " * 60)[:200]
    requests = [greedy([*shared, n, n + 1], 3) for n in range(10, 20)]
    results = run(engine, *requests)
    assert engine.counters.prefill_tokens == 202 + 9 * (202 - 192)
    assert engine.counters.prefill_tokens_shared == 9 * 192
    assert sorted(r.started.cached_tokens for r in results) == [0] + [192] * 9
    later = run(engine, requests[0])[0]
    assert later.started.cached_tokens == 192
    assert later.ids() == results[0].ids()


def test_only_requests_with_an_equal_salt_share_a_prefix(make_engine):
    engine = make_engine()
    shared = prompt(engine, "the lazy dog jumps " * 60)[:200]
    ann, ann_too, bob, anybody = (
        replace(greedy([*shared, n, n + 1], 3), salt=salt)
        for n, salt in enumerate((b"ann", b"ann", b"bob", b""), 10)
    )
    # Together, so that a request is held back for the prefix of another one only where it will find it.
    together = run(engine, ann, bob, anybody)
    assert [r.started.cached_tokens for r in together] == [0, 0, 0]
    assert engine.counters.prefill_tokens == 3 * 202
    assert run(engine, ann_too)[0].started.cached_tokens == 192
    assert run(engine, bob)[0].started.cached_tokens == 192
    assert run(engine, ann)[0].ids() == together[0].ids()


def test_memory_is_given_back(make_engine):
    engine = make_engine()
    ids = prompt(engine, "quick " * 30)
    run(engine, *(greedy([*ids, n], 20, n=3) for n in range(5)))
    until(lambda: engine.idle)
    assert engine.cache_bytes_used == 0
    assert engine.model.pool.used == 0


def test_end_of_sequence_ends(make_engine):
    engine = make_engine()
    ids = prompt(engine, "the quick brown fox")
    found = run(engine, greedy(ids, 40))[0].ids()
    engine.model.eos_ids = frozenset([found[7], 10**6])
    first = found.index(found[7])
    result = run(engine, Request(ids, max_tokens=40))[0]
    assert result.finished().reason is Finish.EOS
    assert result.ids() == found[: first + 1]
    assert run(engine, greedy(ids, 40))[0].ids() == found


def test_a_stop_string_ends_and_is_left_out(make_engine):
    engine = make_engine()
    ids = prompt(engine, "over the")
    text = run(engine, greedy(ids, 60))[0].finished().text
    stop = text[10:14]
    result = run(engine, greedy(ids, 60, stop=["never in there", stop]))[0]
    end = result.finished()
    assert (end.reason, end.stop) == (Finish.STOP, stop)
    assert end.text == result.text() == text[: text.index(stop)]


def test_stop_strings_inside_many_byte_characters(make_engine):
    engine = make_engine()
    tokenizer = engine.model.tokenizer
    ids = tokenizer("雪🦊雪", add_special_tokens=False).input_ids
    forced = iter([*ids, *ids])

    class Forced:
        """A sequence whose logits always favour the next byte of a text."""

        def __call__(self, rows, hidden=()):
            outputs = forward(rows, hidden)
            for row, output in zip(rows, outputs, strict=True):
                if row.outputs:
                    output.logits = torch.nn.functional.one_hot(torch.tensor([next(forced)]), 384).float()
            return outputs

    forward = engine.model.forward
    engine.model.forward = Forced()
    result = run(engine, greedy([1, 2, 3], len(ids), stop=["雪🦊"]))[0]
    assert (result.finished().reason, result.finished().text, result.text()) == (Finish.STOP, "", "")


def test_logprobs_are_what_scoring_says(make_engine):
    engine = make_engine()
    ids = prompt(engine, "the quick brown")
    result = run(engine, greedy(ids, 10, logprobs=3))[0]
    choices = [c for d in result.deltas() for c in d.choices]
    scores = engine.submit_score([*ids, *result.ids()], top=3, skip=len(ids)).result(60)
    assert [c.id for c in choices] == [t.id for t in scores.tokens] == result.ids()
    torch.testing.assert_close(
        torch.tensor([c.logprob for c in choices]), torch.tensor([t.logprob for t in scores.tokens])
    )
    assert [[i for i, _ in c.top] for c in choices] == [[i for i, _ in t.top] for t in scores.tokens]
    assert result.finished().logprob == pytest.approx(sum(c.logprob for c in choices))


def test_scores_are_transformers(tiny):
    ids = torch.randint(0, 300, (200,), generator=torch.Generator().manual_seed(2)).tolist()
    with torch.inference_mode():
        reference = torch.log_softmax(tiny.module(input_ids=torch.tensor([ids])).logits[0], -1)
    expected = [reference[n - 1, ids[n]].item() for n in range(1, 200)]
    scores = score(tiny, ids, top=5)
    assert [t.logprob for t in scores.tokens] == pytest.approx(expected, abs=1e-3)
    assert scores.total == pytest.approx(sum(expected), abs=1e-2)
    skipped = score(tiny, ids, skip=130)
    assert [t.id for t in skipped.tokens] == ids[130:]
    assert [t.logprob for t in skipped.tokens] == pytest.approx(expected[129:], abs=1e-3)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ids": []}, "PROMPT_EMPTY"),
        ({"ids": [1, 384]}, "TOKEN_ID_OUT_OF_RANGE"),
        ({"ids": [-1, 2]}, "TOKEN_ID_OUT_OF_RANGE"),
        ({"ids": [1] * 2000, "max_tokens": 49}, "PROMPT_TOO_LONG"),
        ({"sampling": Sampling(1.0, top_k=10_000)}, "TOP_K_TOO_LARGE"),
        ({"stop": ["ok", ""]}, "STOP_EMPTY"),
    ],
)
def test_what_can_never_work_is_refused(make_engine, change, reason):
    engine = make_engine()
    with pytest.raises(InvalidArgument) as caught:
        engine.submit(Request(**{"ids": [1, 2], **change}), lambda _: None)
    assert caught.value.reason == reason


def test_lengths_are_in_the_error(make_engine):
    with pytest.raises(InvalidArgument) as caught:
        make_engine().submit(Request([1] * 100, max_tokens=1949), lambda _: None)
    assert caught.value.metadata == {
        "prompt_tokens": "100",
        "max_tokens": "1949",
        "context_length": "2048",
    }
    assert run(make_engine(), Request([1] * 100, max_tokens=5))[0].finished()


def test_a_full_queue_says_when_to_come_back(make_engine):
    engine = make_engine(max_running=1, queue_limit=2)
    gate = Gate(engine)
    collectors = [Collector() for _ in range(3)]
    engine.submit(greedy([1], 3), collectors[0].deliver)
    assert gate.entered.wait(60)
    for collector in collectors[1:]:
        engine.submit(greedy([2], 3), collector.deliver)
    with pytest.raises(ResourceExhausted) as caught:
        engine.submit(greedy([3], 3), lambda _: None)
    assert caught.value.reason == "ENGINE_QUEUE_FULL"
    assert caught.value.retry_after
    gate.open.set()
    assert all(len(c.wait().ids()) == 3 for c in collectors)


def test_memory_bounds_requests_but_not_their_number(make_engine):
    block = 16 * 2 * 2 * 2 * 16 * 4
    engine = make_engine(cache_bytes=12 * block)
    assert engine.model.limits.cache_blocks == 12
    with pytest.raises(ResourceExhausted) as caught:
        engine.submit(greedy([1] * 180, 20), lambda _: None)
    assert caught.value.reason == "ENGINE_MEMORY_FULL"
    with pytest.raises(ResourceExhausted):
        engine.submit(greedy([1] * 32, 40, n=5), lambda _: None)
    requests = [greedy([n] * 60, 60) for n in range(1, 9)]
    results = run(engine, *requests)
    assert [r.finished().generated_tokens for r in results] == [60] * 8
    assert results[3].ids() == run(engine, requests[3])[0].ids()


def test_a_cancelled_request_leaves_before_the_next_step(make_engine):
    engine = make_engine()
    gate = Gate(engine)
    gone, stays = Collector(), Collector()
    handle = engine.submit(greedy([1, 2], 500), gone.deliver)
    assert gate.entered.wait(60)
    engine.submit(greedy([3, 4], 30), stays.deliver)
    handle.cancel()
    before = len(gone.events)
    gate.open.set()
    stays.wait()
    until(lambda: engine.idle)
    assert len(gone.events) == before
    assert engine.model.pool.used == 0
    assert engine.counters.generated_tokens <= 32


def test_a_cancelled_score_is_given_up(make_engine):
    engine = make_engine()
    gate = Gate(engine)
    future = engine.submit_score([5] * 1000)
    assert gate.entered.wait(60)
    assert future.cancel()
    gate.open.set()
    until(lambda: engine.idle)
    assert engine.model.pool.used == 0
    assert engine.cache_bytes_used == 0


def test_a_failure_fails_every_request(make_engine):
    engine = make_engine()
    gate = Gate(engine)
    collectors = [Collector() for _ in range(3)]
    for collector in collectors:
        engine.submit(greedy([1], 3), collector.deliver)
    future = engine.submit_score([1, 2, 3])

    def fail(rows, hidden=()):
        raise RuntimeError("broken on purpose")

    gate._forward = fail
    gate.open.set()
    for collector in collectors:
        assert collector.wait().error.reason == "ENGINE_FAILED"
    with pytest.raises(Unavailable):
        future.result(60)
    until(lambda: engine.failed)
    with pytest.raises(Unavailable) as caught:
        engine.submit(greedy([1], 3), lambda _: None)
    assert caught.value.reason == "ENGINE_FAILED"


def test_closing_ends_open_requests(make_engine):
    engine = make_engine()
    collector = Collector()
    engine.submit(greedy([1], 2000), collector.deliver)
    engine.close()
    assert collector.wait().error.reason == "SHUTTING_DOWN"


class Broken:
    """Drafting whose sequences fail at their third token, by a bug or by saying what is wrong."""

    needs, width = "logits", 1

    def __init__(self, error: Exception) -> None:
        self.error = error

    def check(self, model, request) -> None:
        """Nothing to refuse."""

    def start(self, request, index, cache, model):
        error = self.error

        class Sequence(SequenceState):
            def take(self, outputs, step):
                if self.generated == 2:
                    raise error
                return super().take(outputs, step)

        return Sequence(request, index, cache, model)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ZeroDivisionError("no"), "REQUEST_FAILED"),
        (NotFound(Reason.MODEL_NOT_FOUND, "gone"), "MODEL_NOT_FOUND"),
    ],
)
def test_an_error_of_one_request_ends_that_request_alone(make_engine, error, reason):
    engine = make_engine()
    ids = prompt(engine, "the lazy dog")
    alone = run(engine, greedy(ids, 20))[0].ids()
    broken = Request(ids, max_tokens=20, ignore_eos=True, n=2, strategy=Broken(error))
    failed, other = run(engine, broken, greedy(ids, 20))
    assert failed.error.reason == reason
    assert other.ids() == alone
    assert run(engine, greedy(ids, 20))[0].ids() == alone
    assert engine.model.pool.used == 0


def test_requests_of_other_models_are_served_by_the_same_engine(tiny_model):
    model = load(tiny_model, "cpu", "float32", threads=1, cache_bytes=8 << 20)
    model.close()
    model.pool, model.compiled, model.forward_kind = None, None, "transformers"
    engine = Engine(model)
    ids = prompt(engine, "the lazy dog")
    expected = generate(engine, ids, 20)
    results = run(engine, greedy(ids, 20), greedy(ids, 20, n=2))
    assert results[0].ids() == results[1].ids(0) == results[1].ids(1) == expected
    engine.close()


@pytest.mark.model
def test_the_sample_model_says_what_transformers_says(sample_model):
    engine = Engine(load(sample_model, "cpu", "float32", threads=1, cache_bytes=256 << 20))
    texts = [
        "The capital of France is",
        "def fibonacci(n):\n",
        "Water boils at",
        "Once upon a time, there was",
    ]
    prompts = [prompt(engine, text) for text in texts]
    expected = [generate(engine, ids, 64) for ids in prompts]
    assert [r.ids() for r in run(engine, *(greedy(ids) for ids in prompts))] == expected
    engine.close()
