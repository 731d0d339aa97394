"""Quoting in the engine: against the plain loop, beside others, and to the letter."""

import dataclasses
import hashlib

import numpy as np
import pytest
import torch

from palimpsest.candidates import Candidates, Mode, NestSettings
from palimpsest.candidates.keys import fill, missing, passages_of
from palimpsest.decoding.quoting import Span, SpanKind
from palimpsest.decoding.quoting.events import QuotingFinished
from palimpsest.decoding.quoting.request import NestRequest
from palimpsest.engine import Delta, Finish, Request
from palimpsest.errors import FailedPrecondition, InvalidArgument
from palimpsest.lm import Sampling
from tests.unit.engine.collecting import run
from tests.unit.quoting.at_once import passage_keys

from .blocks import block_of
from .plain import Plain

TEXTS = [
    "the quick brown fox jumps over the lazy dog and the lazy dog jumps over the brown fox. " * 3,
    "Fixtures every kind of test shares: a real Valkey, settings in a scratch folder, two models. " * 2,
    "naïve café — 雪の🦊 jumps over 雪 and the quick émigré. " * 3,
]
EAGER = NestSettings(mu=1.0, alpha=1.0, tau=0.1, r=32, beta=0.0, gamma=0.05, draft=9)


def candidates(model, texts=TEXTS, passage_tokens=24, scores=None) -> Candidates:
    """Passages of texts, with the model's own keys."""
    from palimpsest.lm import TokenBytes

    documents = [model.tokenizer(text).input_ids for text in texts]
    write = TokenBytes(model.tokenizer)
    block = block_of(documents, model.hidden_size, passage_tokens, 8, scores, write)
    numbers = missing(block)
    fill(block, numbers, passage_keys(model, passages_of(block, numbers)))
    return block


def nest(block: Candidates, settings: NestSettings = EAGER, ids=None, count: int = 60, **more) -> Request:
    return Request(ids, max_tokens=count, ignore_eos=True, strategy=NestRequest(block, settings), **more)


def greedy(ids, count: int = 60, **more) -> Request:
    return Request(ids, max_tokens=count, ignore_eos=True, **more)


def spans(result, kind: SpanKind | None = SpanKind.SPAN) -> list[Span]:
    return [e for e in result.events if isinstance(e, Span) and (kind is None or e.kind is kind)]


def check_spans(result, block: Candidates) -> None:
    """Every span is in the output and in its source, in all units."""
    text = result.finished().text
    output = text.encode()
    documents: dict[str, bytes] = {}
    for passage in block.passages:
        documents[passage.document] = documents.get(passage.document, b"") + passage.text
    seen = 0
    for span in spans(result, None):
        assert span.byte_start < span.byte_end
        assert output[span.byte_start : span.byte_end] == span.text
        assert text[span.char_start : span.char_end].encode() == span.text
        assert hashlib.sha256(span.text).hexdigest() == span.sha256
        assert 0 <= span.token_start < span.token_end <= result.finished().generated_tokens
        for source in span.sources:
            document = documents[source.document]
            assert document[source.byte_start : source.byte_end] == span.text
            assert source.sha256 == span.sha256
            decoded = document.decode()
            assert decoded[source.char_start : source.char_end].encode() == span.text
            assert decoded[: source.char_start].endswith(source.prefix)
            assert decoded[source.char_end :].startswith(source.suffix)
        assert span.byte_start >= seen
        seen = span.byte_end
        assert span.token_end - span.token_start <= max(span.accepted, 1) or span.kind is SpanKind.TOKEN_MATCH
    assert result.finished().quoting.dropped == 0


def prompts(model) -> list[list[int]]:
    texts = [
        "the quick brown",
        "Fixtures every kind of",
        "jumps over the lazy",
        "雪の",
        "naïve",
        "a scratch folder",
    ]
    return [model.tokenizer(text).input_ids for text in texts]


@pytest.mark.parametrize(
    "settings",
    [
        EAGER,
        dataclasses.replace(EAGER, beta=3.0, gamma=0.5),
        dataclasses.replace(EAGER, alpha=0.4, tau=0.05, gamma=1.0, r=8),
        dataclasses.replace(EAGER, mode=Mode.NEST_STRICT, gamma=0.9, draft=64),
        dataclasses.replace(EAGER, mode=Mode.KNN_LM, lm_weight=0.3),
        dataclasses.replace(EAGER, delta=0.0),
    ],
)
def test_tokens_and_places_are_the_plain_loops(make_engine, settings):
    engine = make_engine()
    block = candidates(engine.model, scores=[1.0, 3.0, 2.0])
    special = {0, 1, 2}
    asked = prompts(engine.model)
    results = run(engine, *(nest(block, settings, ids, 40) for ids in asked))
    taken = 0
    for ids, result in zip(asked, results, strict=True):
        expected = Plain(engine.model, block, settings, special).run(ids, 40)
        assert result.ids() == [token for token, _ in expected]
        covered = [-1] * 40
        for span in spans(result):
            first = [p for p in block.passages if p.document == span.sources[0].document]
            base = sum(len(block.ids(n)) for n in range(block.passages.index(first[0])))
            for n in range(span.token_start, span.token_end):
                covered[n] = base + span.sources[0].token_start + n - span.token_start
        told = [position if covered[n] >= 0 else -1 for n, (_, position) in enumerate(expected)]
        assert covered == told
        check_spans(result, block)
        taken += sum(position >= 0 for _, position in expected)
        assert result.finished().quoting.span_tokens == sum(position >= 0 for _, position in expected)
    assert (taken > 60) == (settings.delta > 0 and settings.mode is not Mode.KNN_LM)


def test_quoting_leaves_the_bits_of_others_alone(make_engine):
    engine = make_engine()
    block = candidates(engine.model)
    asked = prompts(engine.model)
    plain = [greedy(ids, 50, logprobs=2) for ids in asked]
    warm = [
        Request(ids, Sampling(1.1, seed=n), n=2, max_tokens=30, logprobs=1) for n, ids in enumerate(asked)
    ]
    quoting = [nest(block, EAGER, ids, 50, logprobs=1) for ids in asked]
    alone = [run(engine, request)[0] for request in [*plain, *warm, *quoting]]
    engine.model.pool.forget_prefixes()
    together = run(engine, *plain, *warm, *quoting)
    for a, b in zip(alone, together, strict=True):
        timeless = [
            dataclasses.replace(e, quoting=None) if isinstance(e, QuotingFinished) else e
            for e in (*a.events, *b.events)
        ]
        half = len(a.events)
        # What is told together may differ, as proposals have other lengths; what is told does not.
        assert a.ids() == b.ids()
        assert [c for d in a.deltas() for c in d.choices] == [c for d in b.deltas() for c in d.choices]
        assert timeless[half - 1] == timeless[-1]
        assert [s.sha256 for s in spans(a, None)] == [s.sha256 for s in spans(b, None)]


@pytest.mark.parametrize("warm", [False, True])
def test_lossless_says_what_the_model_says(make_engine, warm):
    engine = make_engine()
    asked = prompts(engine.model)
    sampling = Sampling(0.8, top_p=0.9, seed=3) if warm else Sampling()
    expected = run(engine, *(greedy(ids, 80, sampling=sampling, logprobs=2) for ids in asked))
    # What the model says is in the store, so there is something to find.
    said = [engine.model.tokenizer.decode(r.ids()) for r in expected]
    block = candidates(engine.model, [*TEXTS, *said], passage_tokens=30)
    settings = NestSettings(mode=Mode.LOSSLESS)
    results = run(engine, *(nest(block, settings, ids, 80, sampling=sampling, logprobs=2) for ids in asked))
    forwards = 0
    for plain, result in zip(expected, results, strict=True):
        assert result.ids() == plain.ids()
        assert result.finished().text == plain.finished().text
        assert [c for d in result.deltas() for c in d.choices] == [
            c for d in plain.deltas() for c in d.choices
        ]
        assert result.finished().logprob == plain.finished().logprob
        check_spans(result, block)
        forwards += result.finished().quoting.lm_forwards
    assert forwards < 0.8 * 79 * len(asked)
    assert sum(s.token_end - s.token_start for r in results for s in spans(r)) > 40


def test_sampling_repeats_and_sequences_differ(make_engine):
    engine = make_engine()
    block = candidates(engine.model)
    ids = prompts(engine.model)[0]
    request = nest(block, dataclasses.replace(EAGER, alpha=0.5), ids, 40, sampling=Sampling(1.0, seed=7), n=4)
    first, second = run(engine, request)[0], run(engine, request)[0]
    texts = [first.finished(n).text for n in range(4)]
    assert texts == [second.finished(n).text for n in range(4)]
    assert len(set(texts)) == 4


def test_sampled_tokens_follow_the_mixture(make_engine):
    engine = make_engine()
    block = candidates(engine.model)
    settings = dataclasses.replace(EAGER, alpha=0.6, delta=0.0)
    ids = prompts(engine.model)[2]
    mixed, _, _ = Plain(engine.model, block, settings, {0, 1, 2}).mix(ids)
    drawn = torch.zeros(len(mixed))
    for seed in range(40):
        result = run(engine, nest(block, settings, ids, 1, sampling=Sampling(1.0, seed=seed), n=25))[0]
        for n in range(25):
            drawn[result.ids(n)[0]] += 1
    drawn /= drawn.sum()
    assert float((drawn - mixed).abs().sum()) < 0.25
    top = int(mixed.argmax())
    assert float(drawn[top]) == pytest.approx(float(mixed[top]), abs=0.06)


def test_no_more_tokens_than_asked_for_and_no_more_memory(make_engine):
    engine = make_engine(cache_bytes=24 * 16 * 2 * 2 * 2 * 16 * 4)
    block = candidates(engine.model)
    ids = prompts(engine.model)[0]
    for count in (1, 2, 3, 7, 20, 61):
        result = run(engine, nest(block, dataclasses.replace(EAGER, draft=64), ids, count))[0]
        assert len(result.ids()) == result.finished().generated_tokens == count
        assert result.finished().reason is Finish.LENGTH
        assert result.finished().quoting.tokens == count
        check_spans(result, block)
    assert engine.cache_bytes_used == 0
    engine.model.pool.forget_prefixes()
    assert engine.model.pool.used == 0


def test_text_and_span_are_cut_at_the_same_byte(make_engine):
    engine = make_engine()
    block = candidates(engine.model)
    for ids in prompts(engine.model):
        whole = run(engine, nest(block, EAGER, ids))[0]
        text = whole.finished().text
        for start in range(0, len(text) - 5, 4):
            stop = text[start : start + 5]
            result = run(engine, nest(block, EAGER, ids, stop=[stop]))[0]
            end = result.finished()
            assert (end.reason, end.stop) == (Finish.STOP, stop)
            assert end.text == result.text() == text[: text.index(stop)]
            check_spans(result, block)
            cut = len(end.text.encode())
            for before, after in zip(spans(whole, None), spans(result, None), strict=False):
                assert after.byte_start == before.byte_start
                assert after.byte_end == min(before.byte_end, cut)


def test_the_end_of_sequence_ends(make_engine):
    engine = make_engine()
    block = candidates(engine.model)
    ids = prompts(engine.model)[0]
    found = run(engine, nest(block, EAGER, ids, 40))[0].ids()
    engine.model.eos_ids = frozenset([found[25]])
    first = found.index(found[25])
    request = dataclasses.replace(nest(block, EAGER, ids, 40), ignore_eos=False)
    result = run(engine, request)[0]
    assert result.finished().generated_tokens <= first + 1 or found[25] in block.tokens
    if result.finished().reason is Finish.EOS:
        assert result.ids()[-1] == found[25]
    block_ids = set(block.tokens.tolist())
    assert found[25] not in block_ids or all(found[25] not in d.token_ids[:-1] for d in result.deltas())


def test_special_tokens_are_never_proposed(make_engine):
    engine = make_engine()
    block = candidates(engine.model)
    special = int(engine.model.tokenizer.all_special_ids[0])
    block.tokens[::5] = special
    result = run(engine, nest(block, EAGER, prompts(engine.model)[0], 60))[0]
    positions = np.zeros(len(block), dtype=bool)
    positions[::5] = True
    for span in spans(result, None):
        assert special not in result.ids()[span.token_start : span.token_end]


def test_passages_without_keys_are_not_searched(make_engine):
    engine = make_engine()
    block = candidates(engine.model)
    empty = Candidates.without_keys([], [], [], [], engine.model.hidden_size)
    bare = block_of([[5, 6, 7, 8] * 10], engine.model.hidden_size)
    ids = prompts(engine.model)[0]
    plain, none, without = run(engine, greedy(ids), nest(empty, EAGER, ids), nest(bare, EAGER, ids))
    assert plain.ids() == none.ids() == without.ids()
    assert without.finished().quoting.searches == 0
    assert run(engine, nest(block, dataclasses.replace(EAGER, mode=Mode.LM), ids))[0].ids() == plain.ids()


def test_counts_add_up(make_engine):
    engine = make_engine()
    block = candidates(engine.model)
    result = run(engine, nest(block, EAGER, prompts(engine.model)[0], 60))[0]
    stats = result.finished().quoting
    deltas = [e for e in result.events if isinstance(e, Delta)]
    assert stats.tokens == 60
    assert stats.lm_forwards < 60
    assert stats.lm_positions >= stats.lm_forwards
    assert stats.searches == stats.lm_positions + 1
    assert stats.accepted_tokens == stats.span_tokens
    assert stats.accepted_tokens <= stats.proposed_tokens
    assert stats.spans_accepted <= stats.spans_proposed
    assert len(deltas) <= stats.lm_forwards + 1
    told = spans(result)
    assert sum(s.token_end - s.token_start for s in told) <= stats.span_tokens
    assert sum(s.accepted for s in told) <= stats.accepted_tokens


def test_weak_spans_are_marked(make_engine):
    engine = make_engine()
    block = candidates(engine.model)
    seen = [s for ids in prompts(engine.model) for s in spans(run(engine, nest(block, EAGER, ids))[0])]
    assert any(not s.weak for s in seen)
    assert all(s.weak for s in seen if s.token_end - s.token_start < 3)


def test_models_of_any_shape_quote(tiny_model):
    from palimpsest.engine import Engine
    from palimpsest.lm import load

    model = load(tiny_model, "cpu", "float32", threads=1, cache_bytes=8 << 20)
    block = candidates(model)
    ids = prompts(model)[0]
    compiled = Engine(model)
    expected = run(compiled, nest(block, EAGER, ids, 30))[0]
    compiled.close()
    model = load(tiny_model, "cpu", "float32", threads=1, cache_bytes=8 << 20)
    model.close()
    model.pool, model.compiled, model.forward_kind = None, None, "transformers"
    engine = Engine(model)
    result = run(engine, nest(block, EAGER, ids, 30))[0]
    assert result.ids() == expected.ids()
    check_spans(result, block)
    engine.close()


def test_candidates_of_another_model_are_refused(make_engine):
    engine = make_engine()
    ids = prompts(engine.model)[0]
    for block, match in (
        (block_of([[5, 6, 7] * 9], size=32), "32 elements"),
        (block_of([[5, 6, 347] * 9], size=64), "vocabulary"),
    ):
        with pytest.raises(InvalidArgument, match=match):
            engine.submit(nest(block, EAGER, ids), lambda _: None)
    with pytest.raises(InvalidArgument) as caught:
        engine.submit(nest(candidates(engine.model), NestSettings(gamma=2.0), ids), lambda _: None)
    assert caught.value.violations[0].field == "nest.gamma"


def test_models_that_cannot_take_back_are_refused(tiny_model, tmp_path):
    from transformers import AutoModelForCausalLM, MistralConfig

    from palimpsest.engine import Engine
    from palimpsest.lm import load

    config = MistralConfig(
        vocab_size=347, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=16, eos_token_id=2,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    for file in tiny_model.glob("tokenizer*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    engine = Engine(load(tmp_path, "cpu", "float32", threads=1, cache_bytes=8 << 20))
    with pytest.raises(FailedPrecondition):
        engine.submit(nest(block_of([[5, 6, 7] * 9]), EAGER, [1, 2]), lambda _: None)
    assert run(engine, greedy([1, 2], 5))[0].ids()
    engine.close()


def test_what_is_said_does_not_depend_on_the_length_of_proposals(make_engine):
    engine = make_engine()
    block = candidates(engine.model)
    for ids in prompts(engine.model):
        for sampling in (Sampling(), Sampling(0.9, seed=4)):
            told = [
                run(engine, nest(block, dataclasses.replace(EAGER, draft=n), ids, 50, sampling=sampling))[0]
                for n in (1, 3, 64)
            ]
            assert told[0].ids() == told[1].ids() == told[2].ids()
            ranges = [[(s.kind, s.byte_start, s.byte_end, s.sources) for s in spans(t, None)] for t in told]
            assert ranges[0] == ranges[1] == ranges[2]
