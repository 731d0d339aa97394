"""The codec room's jobs: prefilling and storing a context, calibrating a model."""

import queue
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import structlog

from palimpsest.api.codec.v1 import codec_pb2 as pb
from palimpsest.engine import worker_host
from palimpsest.errors import ResourceExhausted
from palimpsest.jobs import JobContext, handler
from palimpsest.lm import encode_text
from palimpsest.progress import Drain
from services.codec.coding import checked_ids, choose_coding, profile_of, rotary_of
from services.codec.contexts import MANIFEST_TYPE, ContextCatalogue, prefix_digests
from services.codec.inputs import read_text
from services.codec.profiles import PROFILE_TYPE, ProfileCatalogue, require_usable

if TYPE_CHECKING:
    import torch

    from palimpsest.engine import Engine
    from services.codec.judging import Judge
    from services.codec.writing import ContextWriter

log = structlog.get_logger(__name__)

SECONDS_PER_CHECKPOINT = 10.0


class _Prefilled(NamedTuple):
    """A prefilled chunk, waiting to be encoded; the engine goes on once ``encoded`` is set."""

    start: int
    keys: "torch.Tensor"
    values: "torch.Tensor"
    encoded: "Future[None]"


@handler("codec.create_context", request=pb.CreateContextRequest, response=pb.Context, seconds=6 * 3600.0)
def create_context(request: pb.CreateContextRequest, job: JobContext) -> pb.Context:
    """Prefill a text, encode it chunk by chunk, and commit the context."""
    from services.codec.writing import ContextWriter

    resources, progress = job.resources, job.progress
    prefix = resources.settings.redis_prefix
    contexts = ContextCatalogue(resources.redis, prefix, resources.artifacts)
    profiles = ProfileCatalogue(resources.redis, prefix, resources.artifacts)
    progress.step(0, 0, "loading the model")
    with worker_host(job).using(request.model, progress) as hosted:
        record, model = hosted.record, hosted.engine.model
        ids = checked_ids(_ids(request, job, model.tokenizer), record)
        coding = choose_coding(request.coding, record, profiles)
        dtype = str(model.dtype).removeprefix("torch.")
        content = coding.content(record.fingerprint, prefix_digests(ids, [len(ids)])[0], dtype)
        context_id = request.context_id or f"ctx-{content[:16]}"
        context = contexts.find(job.principal, context_id, content)
        if context is None:
            writer = ContextWriter(
                resources.artifacts,
                record,
                ids,
                coding,
                profile_of(coding, profiles),
                rotary_of(record),
                threads=max(1, resources.settings.threads),
            )
            with _judging(writer, hosted.engine, job) as judge:
                shape = _write(writer, hosted.engine, judge, job, _Kept(job, content))
            context = writer.commit(contexts, job.principal, shape, context_id, content, request.labels)
    context.ClearField("chunks")
    return context


@contextmanager
def _judging(writer: "ContextWriter", engine: "Engine", job: JobContext) -> "Iterator[Judge | None]":
    """Let the writer's chunks be judged by the model itself; None where the engine's cache has no room for that."""
    from services.codec.judging import QUESTION, Judge

    # In the midst of a text, so without a token that opens one.
    question = engine.model.tokenizer(QUESTION, add_special_tokens=False)["input_ids"]
    size = min(writer.coding.chunk_tokens, len(writer.ids))
    try:
        judge = Judge(engine, writer.ids, question, size, job.progress.check)
    except ResourceExhausted as full:
        log.warning("losses are estimated, not measured", reason=full.message)
        yield None
        return
    writer.losses = judge
    try:
        yield judge
    finally:
        judge.close()


def _write(
    writer: "ContextWriter", engine: "Engine", judge: "Judge | None", job: JobContext, kept: "_Kept"
) -> pb.CacheShape:
    """Prefill and store every chunk; returns the shape of the whole cache.

    Chunks that an earlier attempt has stored are not encoded again. They are prefilled again, as the chunks after them
    need their exact keys and values.
    """
    from palimpsest.kv import KeyValues
    from services.codec.writing import shape_of

    total, shape = len(writer.ids), None
    job.progress.step(0, total, "prefilling and encoding")
    ready: queue.SimpleQueue[_Prefilled] = queue.SimpleQueue()

    def prefilled(start: int, keys: "torch.Tensor", values: "torch.Tensor") -> "Future[None]":
        # The engine runs at most two chunks ahead of the encoder.
        chunk = _Prefilled(start, keys, values, Future())
        ready.put(chunk)
        return chunk.encoded

    future = engine.submit_prefill(writer.ids, writer.coding.chunk_tokens, prefilled)
    try:
        for index in range(len(writer.prefixes)):
            chunk = _next(ready, future, job)
            kv = KeyValues(chunk.keys, chunk.values, chunk.start)
            shape = shape or shape_of(kv, total)
            if index < len(kept.chunks):
                writer.chunks.append(kept.chunks[index])
            else:
                kept.add(writer.add(kv))
            if judge is not None:
                judge.passed(kv)
            chunk.encoded.set_result(None)
            job.progress.step(kv.start + kv.tokens, total)
    except Drain:
        kept.save()
        raise
    finally:
        future.cancel()
    assert shape is not None
    return shape


def _ids(request: pb.CreateContextRequest, job: JobContext, tokenizer: object) -> list[int]:
    match request.WhichOneof("input"):
        case "tokens":
            return list(request.tokens.ids)
        case "text_artifact":
            return encode_text(tokenizer, read_text(job.resources.artifacts, request.text_artifact), "text")
        case _:
            return encode_text(tokenizer, request.text, "text")


def _next(ready: "queue.SimpleQueue[_Prefilled]", future: "Future[None]", job: JobContext) -> _Prefilled:
    """The next prefilled chunk; raises if the job is cancelled or the engine fails meanwhile."""
    while True:
        job.progress.check()
        try:
            return ready.get(timeout=0.25)
        except queue.Empty:
            if future.done() and future.exception() is not None:
                future.result()


class _Kept:
    """Chunks that are stored, noted every few seconds so that a later attempt finds them."""

    def __init__(self, job: JobContext, content: str) -> None:
        self._job, self._content = job, content
        state = job.progress.resume() or {}
        partial = pb.Context()
        if state.get("content") == content:
            partial.ParseFromString(job.resources.artifacts.read_bytes(state["partial"]))
        self.chunks = list(partial.chunks)
        self._saved_at = time.monotonic()

    def add(self, chunk: pb.Chunk) -> None:
        """Keep a chunk's artefacts from collection, and note it if the last note is old."""
        for encoding in chunk.encodings:
            self._job.progress.publish(encoding.artifact)
        self.chunks.append(chunk)
        if time.monotonic() - self._saved_at > SECONDS_PER_CHECKPOINT:
            self.save()

    def save(self) -> None:
        """Note all chunks so far."""
        data = pb.Context(chunks=self.chunks).SerializeToString()
        info = self._job.resources.artifacts.put_bytes(data, MANIFEST_TYPE)
        self._job.progress.publish(info.digest)
        self._job.progress.checkpoint({"content": self._content, "partial": info.digest})
        self._saved_at = time.monotonic()


@handler("codec.calibrate", request=pb.CalibrateRequest, response=pb.Profile, seconds=6 * 3600.0)
def calibrate(request: pb.CalibrateRequest, job: JobContext) -> pb.Profile:
    """Learn a profile from sample texts, measure its levels on held-out ones, and make it the model's."""
    from services.codec.calibration import Samples, calibrate_model

    resources = job.resources
    profiles = ProfileCatalogue(resources.redis, resources.settings.redis_prefix, resources.artifacts)
    record = resources.models.get(request.model)
    samples = Samples(
        texts=read_text(resources.artifacts, request.texts) if request.texts else "",
        documents=request.documents or 32,
        tokens=request.document_tokens or 1024,
        group=request.group or 5,
    )
    present = profiles.find(record.fingerprint)
    if present is not None and present.settings_digest == samples.digest and not request.skip_cache:
        return present
    found, facts = calibrate_model(record, samples, resources.settings, job.progress)
    info = resources.artifacts.put_bytes(found.to_bytes(), PROFILE_TYPE)
    job.progress.publish(info.digest)
    require_usable(profiles, info.digest, request.model)
    facts.artifact, facts.size_bytes = info.digest, info.size_bytes
    profiles.put(facts)
    return facts
