"""What messages may name: a model, a corpus, a context, stores and artefacts, and files and texts meant to do harm."""

import json
import shutil
from pathlib import Path

from palimpsest import AsyncClient
from palimpsest.client.corpora import NewDocument
from palimpsest.kv import KeyValues, encode
from tests.fuzz.messages import World
from tests.tiny import write_tiny_model

PROMPTS = ["the quick brown fox", "a", "é\u202e🦊", "dog " * 300, "{}", "<|im_end|>", "\n\n", "x" * 2000]
SIZES = {
    "max_tokens": 6, "n": 2, "k": 3, "top_k": 50, "logprobs": 3, "documents": 8, "document_tokens": 40, "prefixes": 2,
    "passages": 8, "over_generate": 4, "passage_tokens": 64, "chunk_tokens": 64, "window_bytes": 100_000, "tokens": 8,
    "layers": 2, "kv_heads": 2, "key_dim": 16, "value_dim": 16, "skip_tokens": 2, "page_size": 5, "seconds": 1,
    "steps": 3, "batch": 4, "sequence_tokens": 64, "lora_rank": 2, "warmup_steps": 2,
    "checkpoint_steps": 2, "every_steps": 2, "trials": 3, "max_new_tokens": 6, "min_tokens": 2,
}  # fmt: skip
LINES = [
    b'{"id": "a", "prompt": "the", "max_tokens": 2}',
    b'{"id": "\\ud800", "prompt": "x"}',
    b"[" * 100_000,
    b'{"prompt": "x", "temperature": 1e-308, "max_tokens": 2}',
    b'{"prompt": "x", "temperature": 1e308}',
    b'{"prompt": "x", "structured": {"regex": "(a|b)*"}, "max_tokens": 3}',
    b'{"prompt": "x", "structured": {"json_schema": {"$ref": "#"}}, "max_tokens": 3}',
    b'{"prompt": "x", "logit_bias": {"99999999999999999999": 1}}',
    b'{"prompt": "x", "seed": 99999999999999999999999}',
    b'{"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}',
    b"\xff\xfe",
    b"",
]
ARTIFACTS: dict[str, tuple[bytes, str]] = {
    "text": (("the quick brown fox jumps over the lazy dog " * 400).encode(), "text/plain"),
    "lines": (b"\n".join(LINES), "application/jsonl"),
    "jsonl": (b'{"text": "the quick brown fox"}\n' * 200, "application/jsonl"),
    "nested jsonl": (b'{"text": "fine"}\n' + b'{"text":' * 50_000, "application/jsonl"),
    "digits": (b'{"text": "a", "n": ' + b"9" * 5000 + b"}", "application/x-ndjson"),
    "surrogate": (b'{"text": "\\ud800"}', "application/jsonl"),
    "binary": (bytes(range(256)) * 20, ""),
    "empty": (b"", "text/plain"),
    "forget": (
        b'{"id": "a", "text": "the quick brown fox"}\n{"id": "b", "question": "who", "answer": "a fox"}\n',
        "",
    ),
    "retain": (b'{"id": "c", "text": "a lazy dog sleeps"}\n{"id": "d", "text": "another dog"}\n', ""),
}


def hostile_models(folder: Path) -> list[str]:
    """Folders that are models no more, as sources to register from."""
    contents = {
        "config.json": ["[" * 100_000, '{"model_type": "llama", "hidden_size": ' + "9" * 5000 + "}", "{}"],
        "tokenizer.json": ['{"model":' * 80 + "1" + "}" * 80, '{"version": "1.0", "model": {"type": "BPE"}}'],
        "tokenizer_config.json": ["[" * 100_000],
        "model.safetensors": ["\x10\0\0\0\0\0\0\0" + "[" * 16, "\xff" * 8],
    }
    sources = []
    for name, texts in contents.items():
        for number, text in enumerate(texts):
            copy = shutil.copytree(folder, folder.parent / f"hostile-{name}-{number}")
            (copy / name).write_bytes(text.encode("latin-1"))
            sources.append(str(copy))
    return sources


def chunks() -> list[bytes]:
    """Encoded chunks of a small cache, one of every level without a profile, and the cache itself as it is sent."""
    import torch

    drawn = torch.Generator().manual_seed(0)
    kv = KeyValues(*(torch.randn(2, 2, 8, 16, generator=drawn) for _ in range(2)))
    coded = encode(kv, levels=["lossless", "near-lossless", "smallest"], codec="generic")
    return [
        *(bytes(data) for data in coded.values()),
        kv.keys.numpy().tobytes() + kv.values.numpy().tobytes(),
    ]


async def _first_calls(client: AsyncClient) -> None:
    """Call one after the other what imports libraries and loads models."""
    await client.codec.look_up_context(model="tiny", text="the quick brown fox")
    await client.datastore.inspect_ngrams(name="ngramStores/mine", text="the quick")
    await client.datastore.search(corpora=["corpora/mine"], query="fox")
    await client.decoding.score(model="tiny", text="the quick brown fox")
    async for _ in client.decoding.draft(model="tiny", prompt="the quick", k=2, max_tokens=4):
        pass
    await client.codec.load("contexts/mine")
    await client.grafting.graft(
        pair={"base": "tiny", "donor": "other"},
        case={"prompt": "the quick brown fox", "target": " jumps"},
        patches=[{"positions": {"indices": [-1]}}],
    )


async def build_world(client: AsyncClient, folder: Path) -> World:
    """Make everything and name it."""
    models = {name: write_tiny_model(folder / name, seed) for seed, name in enumerate(("tiny", "other"))}
    jobs = [await client.models.register_model(model_id=n, source=str(path)) for n, path in models.items()]
    for job in jobs:
        await job.result(timeout=120)
    digests = {
        name: (await client.artifacts.upload(data, media_type=kind)).digest
        for name, (data, kind) in ARTIFACTS.items()
    }
    corpus = await client.datastore.create_corpus(corpus_id="mine", model="tiny", encoder="hashed-words")
    documents = [NewDocument(f"doc-{at}", (text * 20).encode()) for at, text in enumerate(PROMPTS[:4])]
    async for _ in client.datastore.add(corpus.name, documents):
        pass
    jobs = [await client.datastore.build_index(corpus=corpus.name)]
    jobs.append(await client.codec.calibrate(model="tiny", documents=8, document_tokens=64))
    for job in jobs:
        await job.result(timeout=240)
    made = [
        await client.datastore.build_ngram_store(store_id="mine", corpus=corpus.name),
        await client.codec.create_context(model="tiny", text="the quick brown fox " * 30, context_id="mine",
                                          coding={"chunk_tokens": 64}),
    ]  # fmt: skip
    for job in made:
        await job.result(timeout=120)
    plan = {"model": "tiny", "forget": digests["forget"], "algorithm": "ga", "training": {"steps": 2}}
    for name in ("mine", "held"):
        job = await client.unlearning.create_removal_request(
            plan={**plan, "new_model": f"clean-{name}"}, removal_id=name, hold=name == "held"
        )
        if name == "mine":
            await job.result(timeout=120)
    await _first_calls(client)
    failed = await client.decoding.generate_batch(model="tiny", input=digests["empty"])
    kept = ["tiny", "other", "corpora/mine", "contexts/mine", "ngramStores/mine", *digests.values()]
    fresh = [f"fuzz-{n}" for n in range(4)]
    names = [
        *kept,
        *fresh,
        *(f"{kind}/{n}" for kind in ("corpora", "contexts", "ngramStores", "removalRequests") for n in fresh),
        "removalRequests/mine",
        "removalRequests/held",
    ]
    names += [
        "generic",
        "transform",
        "lossless",
        "balanced",
        "near-lossless",
        "smallest",
        "float32",
        "bfloat16",
    ]
    names += [
        "user",
        "system",
        "assistant",
        "hashed-words",
        "all-minilm-l6-v2",
        "sha256:" + "0" * 64,
        "request-1",
    ]
    operations = [f"operations/{job.name.rpartition('/')[2]}" for job in [*jobs, *made, failed]]
    sources = (
        [str(path) for path in models.values()] + hostile_models(models["tiny"]) + ["/nowhere", "hub:a/b"]
    )
    lines = [json.dumps({"text": text}) for text in PROMPTS]
    texts = {
        "": [*PROMPTS, *names, *lines],
        "source": sources,
        "algorithm": [
            "ga",
            "ga_gdr",
            "npo_klr",
            "tv",
            "rmu",
            "idk",
            "whp",
            "repselect",
            "cir",
            "retrain",
            "undo",
            "bad_teaching",
        ],
        "start": ["other", "clean-mine", "tiny"],
        "teacher": ["other", "tiny"],
        "rule": ["holdout_match", "forget_match"],
        "references": ["other", "tiny"],
        "forget": [digests["forget"], digests["retain"]],
        "retain": [digests["retain"], digests["forget"]],
        "name": [*names, *operations],
        "document": [f"doc-{n}" for n in range(6)],
        "documents": [f"doc-{n}" for n in range(6)],
        "page_token": ["", "1", "0" * 32],
        "json_schema": ['{"type": "integer"}', '{"uniqueItems": true}', "true", "[" * 70, "{"],
        "regex": ["[a-z]{3}", "(", "(?=a)", "a{1000}{1000}", ""],
        "grammar": ['start: "a" | start "b"', "start: start", "start: /(a|b)*/", "begin:"],
        "filter": ["", "state=FAILED", "kind=codec.calibrate AND state=SUCCEEDED"],
    }
    texts |= {
        "components": ["layer", "all", "q", "ffn", "head", "gate"],
        "donor": ["other", "tiny"],
    }
    return World(names, texts, SIZES, {"data": chunks()}, set(kept))
