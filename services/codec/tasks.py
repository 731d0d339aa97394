"""The codec room's jobs: prefilling and storing a context, calibrating a model."""

import queue
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple

from palimpsest.api.codec.v1 import codec_pb2 as pb
from palimpsest.engine import worker_host
from palimpsest.jobs import JobContext, handler
from palimpsest.lm import encode_text
from palimpsest.progress import Drain
from services.codec.coding import checked_ids, choose_coding, profile_of, rotary_of
from services.codec.contexts import MANIFEST_TYPE, ContextCatalogue, prefix_digests
from services.codec.inputs import read_text
from services.codec.profiles import PROFILE_TYPE, ProfileCatalogue

if TYPE_CHECKING:
    import torch

SECONDS_PER_CHECKPOINT = 10.0


class _Stretch(NamedTuple):
    """A prefilled chunk, waiting to be encoded."""

    start: int
    keys: "torch.Tensor"
    values: "torch.Tensor"
    through: "Future[None]"


@handler("codec.create_context", request=pb.CreateContextRequest, response=pb.Context)
def create_context(request: pb.CreateContextRequest, job: JobContext) -> pb.Context:
    """Prefill, encode chunk by chunk, commit.

    Chunks that an earlier attempt has stored are not encoded again; they are prefilled again, as what follows
    needs their exact keys and values.
    """
    from palimpsest.kv import KeyValues
    from services.codec.writing import ContextWriter, shape_of

    resources, progress = job.resources, job.progress
    prefix = resources.settings.redis_prefix
    contexts = ContextCatalogue(resources.redis, prefix, resources.artifacts)
    profiles = ProfileCatalogue(resources.redis, prefix, resources.artifacts)
    progress.step(0, 0, "loading the model")
    with worker_host(job).using(request.model, progress) as hosted:
        record, engine = hosted.record, hosted.engine
        ids = _ids(request, job, engine.model.tokenizer)
        ids = checked_ids(ids, record)
        coding = choose_coding(request.coding, record, profiles)
        dtype = str(engine.model.dtype).removeprefix("torch.")
        content = coding.content(record.fingerprint, prefix_digests(ids, [len(ids)])[0], dtype)
        context_id = request.context_id or f"ctx-{content[:16]}"
        existing = contexts.find(context_id, content)
        if existing is not None:
            existing.ClearField("chunks")
            return existing
        writer = ContextWriter(
            resources.artifacts,
            record,
            ids,
            coding,
            profile_of(coding, profiles),
            rotary_of(record),
            threads=max(1, resources.settings.threads),
        )
        kept = _Kept(job, content)
        shape: pb.CacheShape | None = None
        progress.step(0, len(ids), "prefilling and encoding")
        ready: queue.SimpleQueue[_Stretch] = queue.SimpleQueue()

        def take(start: int, keys: "torch.Tensor", values: "torch.Tensor") -> "Future[None]":
            # The engine goes no further than two stretches beyond what is encoded.
            stretch = _Stretch(start, keys, values, Future())
            ready.put(stretch)
            return stretch.through

        future = engine.submit_prefill(ids, coding.chunk_tokens, take)
        try:
            for number in range(len(writer.prefixes)):
                stretch = _next(ready, future, job)
                kv = KeyValues(stretch.keys, stretch.values, stretch.start)
                shape = shape or shape_of(kv, len(ids))
                if number < len(kept.chunks):
                    writer.chunks.append(kept.chunks[number])
                else:
                    kept.add(writer.add(kv))
                stretch.through.set_result(None)
                progress.step(kv.start + kv.tokens, len(ids))
        except Drain:
            kept.save()
            raise
        finally:
            future.cancel()
        assert shape is not None
        context = writer.commit(contexts, shape, context_id, content, request.labels)
        context.ClearField("chunks")
        return context


def _ids(request: pb.CreateContextRequest, job: JobContext, tokenizer: object) -> list[int]:
    match request.WhichOneof("input"):
        case "tokens":
            return list(request.tokens.ids)
        case "text_artifact":
            return encode_text(tokenizer, read_text(job.resources.artifacts, request.text_artifact), "text")
        case _:
            return encode_text(tokenizer, request.text, "text")


def _next(ready: "queue.SimpleQueue[_Stretch]", future: "Future[None]", job: JobContext) -> _Stretch:
    """The next prefilled stretch, looking out for cancellation and the engine's failure while waiting."""
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


@handler("codec.calibrate", request=pb.CalibrateRequest, response=pb.Profile)
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
    data = found.to_bytes()
    info = resources.artifacts.put_bytes(data, PROFILE_TYPE)
    job.progress.publish(info.digest)
    facts.artifact, facts.size_bytes = info.digest, info.size_bytes
    profiles.put(facts)
    return facts
