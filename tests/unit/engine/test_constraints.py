"""Constrained sequences: transformers' generate as the reference, forms that hold, masks that are late."""

import json
import re
import threading
from dataclasses import replace

import pytest
import torch

from palimpsest.engine import Engine, Finish, Request
from palimpsest.errors import InvalidArgument, Reason
from palimpsest.lm import Sampling
from palimpsest.lm.constraints import grammars
from palimpsest.lm.constraints.forms import Form
from palimpsest.lm.constraints.grammars import GrammarCompiler

from .collecting import run

PROMPTS = ["the quick brown", "fox", "jumps over the lazy dog the quick", "Fixtures every kind"]
SCHEMA = {
    "type": "object",
    "properties": {"a": {"enum": ["fox", "dog"]}, "b": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["a", "b"],
    "additionalProperties": False,
}


def prompt(engine: Engine, text: str) -> list[int]:
    return engine.model.tokenizer(text).input_ids


def grammar(engine: Engine, kind, *texts: str) -> grammars.Grammar:
    model = engine.model
    compiler = GrammarCompiler(model.tokenizer, model.limits.vocab_size, frozenset(model.eos_ids))
    return compiler.compile(Form(kind, texts))


def test_greedy_with_every_processor_is_transformers_generate(make_engine):
    engine = make_engine()
    bad = [prompt(engine, " brown fox"), prompt(engine, " dog")]
    for text in PROMPTS:
        ids = prompt(engine, text)
        settings = {
            "repetition_penalty": 1.3,
            "sequence_bias": [[[40], 4.0], [[41], -100.0]],
            "bad_words_ids": bad,
            "min_new_tokens": 30,
        }
        with torch.inference_mode():
            out = engine.model.module.generate(
                torch.tensor([ids]), max_new_tokens=40, do_sample=False, pad_token_id=0, **settings
            )
        expected = out[0, len(ids) :].tolist()
        sampling = Sampling(repetition_penalty=1.3, logit_bias=((40, 4.0), (41, -100.0)))
        words = tuple(map(tuple, bad))
        [got] = run(engine, Request(ids, sampling, max_tokens=40, min_tokens=30, bad_words=words))
        assert got.ids() == expected


def test_a_stop_token_ends_without_text_and_min_tokens_holds_it_back(make_engine):
    engine = make_engine()
    ids = prompt(engine, "the quick brown")
    [free] = run(engine, Request(ids, max_tokens=20, ignore_eos=True))
    third = free.ids()[2]
    at = free.ids().index(third)
    [cut] = run(engine, Request(ids, max_tokens=20, ignore_eos=True, stop_ids=frozenset({third})))
    assert cut.finished().reason is Finish.STOP
    assert cut.finished().stop == ""
    assert cut.ids() == free.ids()[: at + 1]
    assert cut.text() == engine.model.tokenizer.decode(free.ids()[:at])
    [held] = run(
        engine, Request(ids, max_tokens=20, ignore_eos=True, stop_ids=frozenset({third}), min_tokens=15)
    )
    assert third not in held.ids()[:15]
    assert held.finished().generated_tokens >= 15


def test_texts_have_their_form_and_end_with_the_models_token(make_engine):
    engine = make_engine(max_running=16)
    forms = [
        ("regex", "[a-f]{2,5}-[0-9]{3}"),
        ("choice", "yes", "no", "may (be)", "yes and no"),
        ("grammar", 'start: "<" word ("," word)* ">"\nword: /[a-z]{1,3}/'),
        ("json_schema", json.dumps(SCHEMA)),
    ]
    requests = [
        Request(
            prompt(engine, text), Sampling(1.0, seed=n), n=2, max_tokens=200, grammar=grammar(engine, *form)
        )
        for n, (text, form) in enumerate(zip(PROMPTS, forms, strict=True))
    ]
    results = run(engine, *requests)
    for result in results:
        assert result.error is None
        for index in (0, 1):
            assert result.finished(index).reason is Finish.EOS
            assert result.ids(index)[-1] in engine.model.eos_ids
    texts = [[result.finished(index).text for index in (0, 1)] for result in results]
    assert all(re.fullmatch(forms[0][1], text) for text in texts[0])
    assert set(texts[1]) <= set(forms[1][1:])
    assert all(re.fullmatch("<[a-z]{1,3}(,[a-z]{1,3})*>", text) for text in texts[2])
    for text in texts[3]:
        value = json.loads(text)
        assert value["a"] in ("fox", "dog")
        assert 0 <= value["b"] <= 99
    alone = [run(engine, request)[0] for request in requests]
    assert [[r.ids(i) for i in (0, 1)] for r in alone] == [[r.ids(i) for i in (0, 1)] for r in results]


def test_what_max_tokens_cuts_ends_with_length(make_engine):
    engine = make_engine()
    request = Request(prompt(engine, "fox"), max_tokens=3, grammar=grammar(engine, "regex", "[a-z]{300}"))
    [result] = run(engine, request)
    assert result.finished().reason is Finish.LENGTH
    assert result.finished().generated_tokens == 3
    assert re.fullmatch("[a-z]*", result.finished().text)


def test_log_probabilities_are_the_models_own(make_engine):
    engine = make_engine()
    ids = prompt(engine, "fox")
    [free] = run(engine, Request(ids, max_tokens=1, logprobs=1, ignore_eos=True))
    [held] = run(
        engine, Request(ids, max_tokens=5, logprobs=1, grammar=grammar(engine, "choice", "yes", "no"))
    )
    first = held.deltas()[0].choices[0]
    assert first.top == free.deltas()[0].choices[0].top
    assert first.logprob <= first.top[0][1]


def test_the_form_counts_where_nothing_else_is_left(make_engine):
    engine = make_engine()
    yes = prompt(engine, "yes")
    words = tuple((token,) for token in {*yes, *prompt(engine, "y"), *prompt(engine, "ye")})
    request = Request(prompt(engine, "fox"), max_tokens=20, min_tokens=15, bad_words=words)
    [result] = run(engine, replace(request, grammar=grammar(engine, "choice", "yes")))
    assert result.finished().text == "yes"
    assert result.finished().reason is Finish.EOS


def test_min_tokens_chooses_the_longer_text_of_a_form(make_engine):
    engine = make_engine()
    request = Request(prompt(engine, "fox"), max_tokens=60, min_tokens=20)
    [result] = run(engine, replace(request, grammar=grammar(engine, "regex", "(a b )+")))
    assert result.finished().generated_tokens > 20
    assert re.fullmatch("(a b )*(a( b?)?)?", result.finished().text)


def test_a_stop_string_cuts_a_form(make_engine):
    engine = make_engine()
    request = Request(prompt(engine, "fox"), max_tokens=40, stop=("-",))
    [result] = run(engine, replace(request, grammar=grammar(engine, "regex", "[a-f]{2}-[0-9]{3}")))
    assert result.finished().reason is Finish.STOP
    assert re.fullmatch("[a-f]{2}", result.finished().text)


def test_no_stream_waits_for_the_mask_of_another(make_engine):
    engine = make_engine()
    ids = prompt(engine, "the quick brown")
    held = Request(ids, max_tokens=20, grammar=grammar(engine, "regex", "[a-z]{6}"))
    [expected] = run(engine, held)
    release = threading.Event()
    blocked = [grammars._masks.submit(release.wait) for _ in range(grammars._masks._max_workers)]
    late, done = run_without_waiting(engine, held)
    try:
        [free] = run(engine, Request(ids, max_tokens=30, ignore_eos=True))
        assert len(free.ids()) == 30
        assert not done.is_set()
    finally:
        release.set()
    assert late.wait().ids() == expected.ids()
    assert all(each.result() for each in blocked)


def run_without_waiting(engine: Engine, request: Request):
    from .collecting import Collector

    collector = Collector(request.n)
    engine.submit(request, collector.deliver)
    return collector, collector._done


class Plain:
    """A strategy that the engine knows nothing of."""

    needs, width = "logits", 1

    def check(self, model, request):
        pass


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"min_tokens": 1}, "min_tokens"),
        ({"stop_ids": frozenset({5})}, "stop_token_ids"),
        ({"bad_words": ((5,),)}, "bad_words"),
        ({"sampling": Sampling(repetition_penalty=1.1)}, "sampling"),
        ({"sampling": Sampling(logit_bias=((1, 1.0),))}, "sampling"),
    ],
)
def test_a_strategy_that_cannot_honour_a_setting_refuses_it_by_name(make_engine, fields, field):
    with pytest.raises(InvalidArgument) as caught:
        make_engine().check(Request([1, 2], strategy=Plain(), **fields))  # type: ignore[arg-type]
    assert caught.value.reason == Reason.SETTING_UNSUPPORTED
    assert [v.field for v in caught.value.violations] == [field]


def test_settings_that_cannot_hold_are_refused(make_engine):
    engine = make_engine()
    form = grammar(engine, "regex", "a")
    for fields, reason in [
        ({"min_tokens": 9, "max_tokens": 8}, Reason.MIN_TOKENS_TOO_LARGE),
        ({"stop_ids": frozenset({10**6})}, Reason.TOKEN_ID_OUT_OF_RANGE),
        ({"bad_words": ((10**6,),)}, Reason.TOKEN_ID_OUT_OF_RANGE),
        ({"sampling": Sampling(logit_bias=((10**6, 1.0),))}, Reason.TOKEN_ID_OUT_OF_RANGE),
        ({"grammar": form, "ignore_eos": True}, Reason.SETTING_UNSUPPORTED),
        ({"grammar": form, "strategy": Plain()}, Reason.SETTING_UNSUPPORTED),
    ]:
        with pytest.raises(InvalidArgument) as caught:
            engine.check(Request([1, 2], **fields))
        assert caught.value.reason == reason
