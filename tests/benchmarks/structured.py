"""Structured output: whether what is accepted is valid, and what its masks cost.

``python -m tests.benchmarks.structured`` takes about six minutes; with ``texts`` or ``steps`` it does one part and
writes no file. The sample model writes one text for every schema that is accepted, 16 at a time; ``jsonschema`` judges them.
"""

import json
import os
import statistics
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from jsonschema.validators import Draft202012Validator, validator_for

from palimpsest.engine import Delta, Engine, Event, Failed, Finish, Finished, Request
from palimpsest.errors import InvalidArgument
from palimpsest.lm import Sampling, encode_chat, load
from palimpsest.lm.constraints.forms import Form
from palimpsest.lm.constraints.grammars import Grammar, GrammarCompiler
from palimpsest.lm.hardware import physical_cores
from tests.benchmarks.decode import sample_model
from tests.benchmarks.figures import Figures, interleaved, percentile
from tests.benchmarks.schemas import drawn, suite

STREAMS = 16
TEXT_TOKENS = 128
STEP_TOKENS = 64
ROUNDS = 5
DRAWN = 500


class Bench:
    """The sample model, its engine and its grammars."""

    def __init__(self, threads: int) -> None:
        self.model = load(sample_model(), "cpu", "bfloat16", threads=threads, cache_bytes=1 << 30)
        self.engine = Engine(self.model, max_running=STREAMS, queue_limit=10_000)
        self.tokenizer: Any = self.model.tokenizer
        self.compiler = GrammarCompiler(self.tokenizer, self.model.limits.vocab_size, self.model.eos_ids)
        self.compile(Form("regex", ("a",)))

    def compile(self, form: Form) -> tuple[Grammar | None, float, str]:
        """A grammar, the seconds it took, and why there is none."""
        start = time.perf_counter()
        try:
            return self.compiler.compile(form), time.perf_counter() - start, ""
        except InvalidArgument as error:
            return None, time.perf_counter() - start, error.message

    def chat(self, schema: object) -> list[int]:
        """A prompt that asks for a value of a schema."""
        ask = f"Write a JSON value for this schema: {json.dumps(schema)[:400]}"
        return encode_chat(self.tokenizer, [{"role": "user", "content": ask}])

    def run(self, requests: list[Request]) -> list[tuple[Finished, tuple[int, ...]]]:
        """The end and the tokens of each."""
        ends: dict[int, Finished] = {}
        ids: list[list[int]] = [[] for _ in requests]
        left = threading.Semaphore(0)

        def deliver(n: int, events: list[Event]) -> None:
            for event in events:
                if isinstance(event, Delta):
                    ids[n] += event.token_ids
                elif isinstance(event, Failed):
                    raise event.error
                elif isinstance(event, Finished):
                    ends[n] = event
                    left.release()

        for n, request in enumerate(requests):
            self.engine.submit(request, partial(deliver, n))  # type: ignore[arg-type]
        for _ in requests:
            left.acquire()
        return [(ends[n], tuple(ids[n])) for n in range(len(requests))]


def validity(figures: Figures, bench: Bench, schemas: list[Any]) -> list[tuple[Grammar, tuple[int, ...]]]:
    """A text for every schema that is accepted; returns their grammars and tokens."""
    taken, seconds, refusals = [], [], []
    for schema in schemas:
        grammar, took, why = bench.compile(Form("json_schema", (json.dumps(schema),)))
        seconds.append(took)
        if grammar is None:
            refusals.append(why)
        else:
            taken.append((schema, grammar))
    requests = [
        Request(
            bench.chat(schema),
            Sampling(temperature=0.8, seed=n),
            max_tokens=TEXT_TOKENS,
            grammar=grammar,
        )
        for n, (schema, grammar) in enumerate(taken)
    ]
    found = bench.run(requests)
    valid, cut = 0, 0
    for (schema, _), (end, _) in zip(taken, found, strict=True):
        if end.reason is Finish.LENGTH:
            cut += 1
            continue
        judge = validator_for(schema, default=Draft202012Validator)(schema)
        try:
            is_valid = judge.is_valid(json.loads(end.text))
        except ValueError:
            is_valid = False
        valid += is_valid
        if not is_valid:
            print("not valid:", json.dumps(schema)[:300], end.text[:200])
    finished = len(taken) - cut
    figures.gate("schemas tried", ">= 500", len(schemas))
    figures.gate("texts that end", ">= 500", finished)
    figures.gate("of these, valid", ">= 1", valid / finished)
    figures.figure("schemas accepted", len(taken))
    figures.figure("schemas refused before the first token, with a reason", len(refusals))
    figures.figure(f"texts cut at {TEXT_TOKENS} tokens (reason LENGTH)", cut)
    figures.figure("compilation, p50, ms", percentile(seconds, 0.5) * 1e3)
    figures.figure("compilation, p99, ms", percentile(seconds, 0.99) * 1e3)
    figures.figure("compilation, slowest, ms", max(seconds) * 1e3)
    return [(grammar, ids) for (_, grammar), (_, ids) in zip(taken, found, strict=True)]


def suite_verdicts(figures: Figures, bench: Bench, groups: list[dict[str, Any]]) -> None:
    """The suite's own instances, read by the grammars: none that is invalid may pass."""
    wrong, passed, valid = 0, 0, 0
    for group in groups:
        schema = group["schema"]
        grammar, _, _ = bench.compile(Form("json_schema", (json.dumps(schema),)))
        if grammar is None or "optional/" in group["file"]:
            continue  # optional: formats above all, which are no assertion unless asked for
        for test in group["tests"]:
            text = json.dumps(test["data"], ensure_ascii=False)
            accepted = reads(grammar, bench.tokenizer(text, add_special_tokens=False)["input_ids"], bench)
            valid += test["valid"]
            passed += accepted and test["valid"]
            if accepted and not test["valid"]:
                wrong += 1
                print("invalid, but let through:", group["file"], json.dumps(schema)[:200], text[:100])
    figures.gate("invalid instances of the suite that a grammar lets through", "== 0", wrong)
    figures.figure(
        "valid instances of the suite that can be written, in the order of their keys", passed / valid
    )


def reads(grammar: Grammar, ids: list[int], bench: Bench) -> bool:
    """Whether a text is one of a grammar's."""
    state = grammar.start()
    for token in [*ids, min(bench.model.eos_ids)]:
        if not state.mask()[token // 32] >> np.uint32(token % 32) & np.uint32(1):
            return False
        if token != min(bench.model.eos_ids):
            state.advance(token)
    return True


def masks(figures: Figures, texts: list[tuple[Grammar, tuple[int, ...]]], bench: Bench) -> None:
    """Every mask of every text once more, alone: reading the token and computing the next mask."""
    seconds = []
    for grammar, ids in texts:
        state = grammar.start()
        for token in ids:
            if token in bench.model.eos_ids:
                break
            start = time.perf_counter()
            state.compute(token)
            seconds.append(time.perf_counter() - start)
    figures.figure("masks", len(seconds))
    figures.figure("mask, p50, ms", percentile(seconds, 0.5) * 1e3)
    figures.gate("mask, p99, ms", "<= 1", percentile(seconds, 0.99) * 1e3)
    figures.figure("mask, slowest, ms", max(seconds) * 1e3)


def long_schema(n: int) -> dict[str, Any]:
    """A schema whose texts have more tokens than a round; no two are alike."""
    keys = [f"key_{n}_{i}" for i in range(12)]
    text: dict[str, Any] = {"type": "string", "minLength": 40 + n, "maxLength": 60 + n}
    kinds = [text, {"type": "array", "items": {"type": "integer"}, "minItems": 20 + n}]
    return {
        "type": "object",
        "properties": {key: kinds[(i + n) % 2] for i, key in enumerate(keys)},
        "required": keys,
    }


def step_cost(figures: Figures, bench: Bench) -> None:
    """A step of 16 streams with 16 schemas, over one of the same prompts without."""
    grammars = [bench.compile(Form("json_schema", (json.dumps(long_schema(n)),)))[0] for n in range(STREAMS)]
    prompts = [bench.chat(long_schema(n))[:96] for n in range(STREAMS)]
    engine_step, steps, processor = bench.engine._step, [], {"plain": [], "schemas": []}

    def timed_step() -> None:
        full = len(bench.engine._batch.active) == STREAMS
        before, start = bench.engine.counters.generated_tokens, time.perf_counter()
        engine_step()
        if full and bench.engine.counters.generated_tokens - before == STREAMS:
            steps.append(time.perf_counter() - start)

    def median_step(chosen: list[Grammar | None], name: str) -> float:
        steps.clear()
        begin = time.process_time()
        ends = bench.run(
            [
                Request(
                    prompts[n],
                    Sampling(),
                    max_tokens=STEP_TOKENS,
                    grammar=chosen[n],
                    ignore_eos=chosen[n] is None,
                )
                for n in range(STREAMS)
            ]
        )
        # Every thread of the process counts, those of the masks too; load of others does not.
        processor[name].append(time.process_time() - begin)
        assert all(end.generated_tokens == STEP_TOKENS for end, _ in ends)
        assert len(steps) > STEP_TOKENS // 2, len(steps)
        return statistics.median(steps)

    bench.engine._step = timed_step  # type: ignore[method-assign]
    found = interleaved(
        {
            "plain": partial(median_step, [None] * STREAMS, "plain"),
            "schemas": partial(median_step, grammars, "schemas"),
            "plain again": partial(median_step, [None] * STREAMS, "plain"),
        },
        ROUNDS,
    )
    bench.engine._step = engine_step  # type: ignore[method-assign]
    plain = min(found["plain"], found["plain again"])
    figures.gate("step of 16 streams with 16 schemas over one without", "<= 1.02", found["schemas"] / plain)
    share = statistics.median(processor["schemas"]) / statistics.median(processor["plain"])
    figures.gate("processor time of 16 such streams over 16 without", "<= 1.02", share)
    figures.figure("step of 16 streams without schemas, ms", plain * 1e3)
    figures.figure(
        "the same, measured twice: larger over smaller", max(found["plain"], found["plain again"]) / plain
    )


def compiling_beside(figures: Figures, bench: Bench) -> None:
    """Streams beside a compilation: their longest step, over that of the same streams alone."""
    prompts = [bench.chat(long_schema(n))[:96] for n in range(4)]
    requests = [Request(ids, Sampling(), max_tokens=STEP_TOKENS, ignore_eos=True) for ids in prompts]
    engine_step, steps, heavy = bench.engine._step, [], []

    def timed_step() -> None:
        start = time.perf_counter()
        engine_step()
        steps.append(time.perf_counter() - start)

    bench.engine._step = timed_step  # type: ignore[method-assign]
    alone, beside, number = [], [], 0
    for round_ in range(2 * ROUNDS):
        steps.clear()
        stop = threading.Event()

        def compile_all(stop: threading.Event = stop) -> None:
            nonlocal number
            while not stop.is_set():
                number += 1
                wide = {f"k{number}_{i}": {"enum": [f"{j}-{i}" for j in range(40)]} for i in range(200)}
                schema = {"type": "object", "properties": wide}
                heavy.append(bench.compile(Form("json_schema", (json.dumps(schema),)))[1])

        thread = threading.Thread(target=compile_all)
        if round_ % 2:
            thread.start()
        bench.run(requests)
        stop.set()
        if round_ % 2:
            thread.join()
        (beside if round_ % 2 else alone).append(statistics.median(steps[5:]))
    bench.engine._step = engine_step  # type: ignore[method-assign]
    figures.figure(
        "compilation of a schema with 200 keys of 40 values, median, ms", statistics.median(heavy) * 1e3
    )
    figures.figure("step of 4 streams beside compilations, ms", statistics.median(beside) * 1e3)
    figures.figure("step of 4 streams alone, ms", statistics.median(alone) * 1e3)


def main() -> None:
    """Measure everything and write the figures."""
    threads = int(os.environ.get("PALIMPSEST_THREADS") or 0) or physical_cores()
    cache = Path(platformdirs.user_cache_dir("palimpsest-tests", appauthor=False))
    figures, bench = Figures("structured"), Bench(threads)
    figures.figure("threads", threads)
    part = sys.argv[1] if len(sys.argv) > 1 else "all"
    if part in ("all", "texts"):
        groups = suite(cache)
        figures.figure("schemas of the JSON-Schema-Test-Suite, drafts 2020-12 and 7", len(groups))
        figures.figure("schemas drawn with seeds, like those of function calls", DRAWN)
        suite_verdicts(figures, bench, groups)
        masks(
            figures,
            validity(figures, bench, [group["schema"] for group in groups] + list(drawn(DRAWN))),
            bench,
        )
    if part in ("all", "steps"):
        step_cost(figures, bench)
        compiling_beside(figures, bench)
    figures.write() if part == "all" else print(figures.gates, figures.figures, sep="\n")
    bench.engine.close()


if __name__ == "__main__":
    main()
