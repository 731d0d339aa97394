"""Grammars: which tokens they allow, against a plain search; and what is refused."""

import json
import re
import threading

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.lm.constraints.forms import Form
from palimpsest.lm.constraints.grammars import GrammarCompiler
from palimpsest.lm.constraints.masks import GrammarState, masked
from palimpsest.lm.token_bytes import TokenBytes


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture(scope="module")
def compiler(tokenizer) -> GrammarCompiler:
    return GrammarCompiler(tokenizer, len(tokenizer) + 5, frozenset({tokenizer.eos_token_id}))


def step(state: GrammarState, token: int) -> None:
    """Take a token, and wait for the mask that another thread computes."""
    there = threading.Event()
    state.advance(token)
    state.begin()
    state.when_ready(there.set)
    assert there.wait(60)


def allowed(mask: np.ndarray) -> set[int]:
    return set(np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")).tolist())


@pytest.mark.parametrize("seed", range(30))
def test_a_choice_allows_the_tokens_that_begin_what_is_left_of_a_text(compiler, tokenizer, seed):
    rng = np.random.default_rng(seed)
    texts = {"".join(rng.choice(list("ab .*(\\é\n-"), rng.integers(1, 9))) for _ in range(6)}
    state, write, so_far = compiler.compile(Form("choice", tuple(texts))).start(), TokenBytes(tokenizer), b""
    special = set(tokenizer.all_special_ids)
    whole = [text.encode() for text in texts]
    while True:
        expected = {
            token
            for token in range(len(tokenizer))
            if token not in special and any(text.startswith(so_far + write(token)) for text in whole)
        }
        if so_far in whole:
            expected.add(tokenizer.eos_token_id)
        assert allowed(state.mask()) == expected
        token = int(rng.choice(sorted(expected)))
        if token == tokenizer.eos_token_id:
            break
        so_far += write(token)
        step(state, token)
    assert so_far in whole


@pytest.mark.parametrize("size", [1, 31, 32, 33, 320, 1000])
def test_a_mask_keeps_the_logits_of_its_bits(size):
    rng = np.random.default_rng(size)
    for words in (np.zeros, np.ones):
        mask = words(-(-size // 32), np.uint32) * np.uint32(0xFFFFFFFF)
        logits = torch.tensor(rng.normal(size=size), dtype=torch.float32)
        assert torch.isfinite(masked(logits, mask)).all() == bool(mask.any())
    mask = rng.integers(0, 1 << 32, -(-size // 32), dtype=np.uint32)
    expected = [
        float(x) if int(mask[i // 32]) >> i % 32 & 1 else -np.inf for i, x in enumerate(logits.tolist())
    ]
    assert masked(logits, mask).tolist() == pytest.approx(expected)


def test_two_sequences_of_one_grammar_go_their_own_ways(compiler, tokenizer):
    grammar = compiler.compile(Form("regex", ("ax|by",)))
    one, other = grammar.start(), grammar.start()
    ids = {letter: tokenizer(letter).input_ids[0] for letter in "abxy"}
    step(one, ids["a"])
    step(other, ids["b"])
    assert allowed(one.mask()) == {ids["x"]}
    assert allowed(other.mask()) == {ids["y"]}
    assert allowed(grammar.start().mask()) >= {ids["a"], ids["b"]}


def test_a_form_is_compiled_once(compiler):
    form = Form("json_schema", ('{"type": "integer"}',))
    assert compiler.compile(form) is compiler.compile(Form("json_schema", ('{"type": "integer"}',)))


@pytest.mark.parametrize(
    ("form", "problem"),
    [
        (Form("json_schema", ("{",)), "not usable JSON"),
        (Form("json_schema", ("[" * 100 + "]" * 100,)), "levels deep"),
        (Form("json_schema", ("[]",)), "a schema is an object"),
        (Form("json_schema", ("false",)), "allows no value"),
        (Form("json_schema", ("",)), "0 bytes"),
        (Form("json_schema", ('{"type": "array", "uniqueItems": true}',)), "uniqueItems"),
        (Form("json_schema", ('{"uniqueItems": true, "x-guidance": {"lenient": true}}',)), "uniqueItems"),
        (Form("json_schema", ('{"$ref": "http://example.com/elsewhere.json"}',)), "elsewhere.json"),
        (Form("json_schema", ('{"type": "integer", "minimum": 3, "maximum": 2}',)), "inimum"),
        (Form("regex", ("(a",)), "unclosed group"),
        (Form("regex", ("(?=a)b",)), "look-around"),
        (Form("grammar", ("start: missing",)), "missing"),
        (Form("grammar", ('begin: "a"',)), "start"),
        (Form("choice", ("",)), "0 bytes"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused_with_a_reason(compiler, form, problem):
    for call in (compiler.compile, Form.check):
        with pytest.raises(InvalidArgument, match=re.escape(problem)) as caught:
            call(form)
        assert caught.value.reason == Reason.STRUCTURED_INVALID
        assert [v.field for v in caught.value.violations] == [f"structured.{form.kind}"]
        assert len(caught.value.message) < 1000


def test_the_schema_true_allows_every_value(compiler, tokenizer):
    for text in ("1", "null", '{"a": [1, "b"]}'):
        state = compiler.compile(Form("json_schema", ("true",))).start()
        for token in tokenizer(text).input_ids:
            assert token in allowed(state.mask())
            step(state, token)
        assert tokenizer.eos_token_id in allowed(state.mask())


@pytest.mark.parametrize(
    "schema", ['{"$ref": "#"}', '{"allOf": [{"$ref": "#"}]}', '{"not": {}}', '{"enum": []}']
)
def test_a_schema_that_no_text_satisfies_is_refused(compiler, schema):
    with pytest.raises(InvalidArgument) as caught:
        compiler.compile(Form("json_schema", (schema,)))
    assert caught.value.reason == Reason.STRUCTURED_INVALID


def test_white_space_ends(compiler, tokenizer):
    state = compiler.compile(Form("json_schema", (json.dumps({"type": "array"}),))).start()
    step(state, tokenizer("[").input_ids[0])
    newline = tokenizer("\n").input_ids[0]
    for _ in range(16):
        assert newline in allowed(state.mask())
        step(state, newline)
    assert newline not in allowed(state.mask())


def test_a_model_that_never_ends_writes_nothing_structured(tokenizer):
    with pytest.raises(FailedPrecondition) as caught:
        GrammarCompiler(tokenizer, len(tokenizer), frozenset()).compile(Form("regex", ("a",)))
    assert caught.value.reason == Reason.STRUCTURED_UNSUPPORTED
