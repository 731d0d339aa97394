"""The decoding room's jobs: generating for a JSONL artefact, with checkpoints."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any

from palimpsest.api.decoding.v1.decoding_pb2 import (
    PRIORITY_BACKGROUND,
    GenerateBatchRequest,
    GenerateBatchResponse,
    GenerateRequest,
    GenerateResponse,
    TuneDraftsRequest,
    TuneDraftsResponse,
)
from palimpsest.artifacts import ArtifactStore
from palimpsest.client.peers import async_client_for
from palimpsest.engine import worker_host
from palimpsest.errors import InvalidArgument, Reason, Unavailable
from palimpsest.jobs import JobContext, handler
from palimpsest.progress import Drain
from services.decoding.sharing import prefix_salt

if TYPE_CHECKING:
    from services.decoding.batch import Generate

MEDIA_TYPE = "application/jsonl"

_LINES_PER_CHECKPOINT = 500

_SERVER_AWAY_SECONDS = 300.0
"""For so long a batch waits for a decoding room that is away: a restart and the loading of a large model."""


@handler(
    "decoding.generate_batch",
    request=GenerateBatchRequest,
    response=GenerateBatchResponse,
    seconds=24 * 3600.0,
)
def generate_batch(request: GenerateBatchRequest, job: JobContext) -> GenerateBatchResponse:
    """Generate for every line.

    Finished lines are published as chunks of the result every few seconds. A later attempt resumes after the last chunk
    and gives the same bytes as an undisturbed run.
    """
    from services.decoding.batch import BatchSettings, Result, Totals, generate_lines
    from services.decoding.lines import read_lines

    progress, artifacts, settings = job.progress, job.resources.artifacts, job.resources.settings
    progress.step(0, 0, "reading")
    with artifacts.open(request.input) as file:
        total = sum(1 for _ in read_lines(file))
    if total == 0:
        raise InvalidArgument(
            Reason.BATCH_EMPTY, "The input artefact is empty. Send one JSON object per line."
        )
    chunks = _Chunks(artifacts, job)
    totals = Totals(**chunks.totals)
    fingerprint = job.resources.models.get(request.model).fingerprint
    batch = BatchSettings(
        defaults=_defaults(request),
        fingerprint=fingerprint,
        salt=f"{request.input}/{fingerprint}",
        seed=request.sampling.seed if request.sampling.HasField("seed") else None,
        window=min(2 * settings.engine_max_running, settings.engine_queue_limit),
        patience=_SERVER_AWAY_SECONDS if settings.batch_engine == "decoding" else 0.0,
    )

    def take(result: Result) -> None:
        for name, count in asdict(result.totals).items():
            setattr(totals, name, getattr(totals, name) + count)
        chunks.add(result.text, asdict(totals))
        progress.step(chunks.lines, total)

    async def run() -> None:
        progress.step(chunks.lines, total, "loading the model")
        async with _engine_of(request.model, job) as generate:
            progress.step(chunks.lines, total, "generating")
            await generate_lines(generate, lines, batch, progress.check, take)

    with artifacts.open(request.input) as file:
        lines: Iterator[tuple[int, bytes]] = islice(enumerate(read_lines(file)), chunks.lines, None)
        try:
            asyncio.run(run())
        except (Drain, Unavailable):
            chunks.save()
            raise
    output = chunks.join()
    return GenerateBatchResponse(output=output.message(), **asdict(totals))


def _defaults(request: GenerateBatchRequest) -> GenerateRequest:
    """What a line asks for that sets nothing itself."""
    known = GenerateRequest.DESCRIPTOR.fields_by_name
    given = {field.name: value for field, value in request.ListFields() if field.name in known}
    return GenerateRequest(**{**given, "n": request.n or 1, "priority": PRIORITY_BACKGROUND})


@asynccontextmanager
async def _engine_of(model: str, job: JobContext) -> "AsyncIterator[Generate]":
    """What generates: the decoding room, which holds the weights already, or this worker's own engine."""
    settings = job.resources.settings
    if settings.batch_engine == "decoding":
        async with async_client_for(job.principal, settings) as peers:

            def call(message: GenerateRequest) -> AsyncIterator[GenerateResponse]:
                return peers.decoding.generate(**{field.name: value for field, value in message.ListFields()})

            yield call
        return
    from services.decoding.convert import GENERATE
    from services.decoding.generation import GenerationPlan, plain_request

    salt = prefix_salt(job.principal, "", settings.engine_share_prefixes)
    with worker_host(job).using(model, job.progress) as hosted:

        async def generate(message: GenerateRequest) -> AsyncIterator[GenerateResponse]:
            request = await plain_request(message, hosted, salt)
            async with GenerationPlan(hosted, request, GENERATE) as plan:
                async for response in plan.run():
                    yield response

        yield generate


class _Chunks:
    """The result so far, in published chunks of whole lines."""

    def __init__(self, artifacts: ArtifactStore, job: JobContext) -> None:
        state: dict[str, Any] = job.progress.resume() or {}
        self._artifacts, self._job = artifacts, job
        self._digests: list[str] = list(state.get("pieces", []))
        self.lines = int(state.get("lines", 0))
        self.totals: dict[str, int] = dict(state.get("totals", {}))
        self._seconds = job.resources.settings.checkpoint_seconds
        self._unsaved: list[bytes] = []
        self._saved_at = time.monotonic()

    def add(self, line: bytes, totals: dict[str, int]) -> None:
        """Append one output line, with the totals including it."""
        self._unsaved.append(line)
        self.lines += 1
        self.totals = totals
        waited = time.monotonic() - self._saved_at
        if waited > self._seconds or len(self._unsaved) >= _LINES_PER_CHECKPOINT:
            self.save()

    def save(self) -> None:
        """Publish the lines since the last chunk, and save a checkpoint."""
        if self._unsaved:
            info = self._artifacts.put_bytes(b"".join(self._unsaved), MEDIA_TYPE)
            self._job.progress.publish(info.digest)
            self._digests.append(info.digest)
            self._unsaved.clear()
            state = {"pieces": self._digests, "lines": self.lines, "totals": self.totals}
            self._job.progress.checkpoint(state)
        self._saved_at = time.monotonic()

    def join(self) -> Any:
        """Publish the whole result."""
        with self._artifacts.writer(MEDIA_TYPE) as writer:
            for digest in self._digests:
                with self._artifacts.open(digest) as file:
                    while data := file.read(1 << 20):
                        writer.write(data)
            for line in self._unsaved:
                writer.write(line)
            info = writer.commit()
        self._job.progress.publish(info.digest)
        return info


@handler("decoding.tune_drafts", request=TuneDraftsRequest, response=TuneDraftsResponse, seconds=6 * 3600.0)
def tune_drafts(request: TuneDraftsRequest, job: JobContext) -> TuneDraftsResponse:
    """Try a grid of settings, publishing each as a partial result, and keep the best for this model and store."""
    from palimpsest.lm import encode_text
    from palimpsest.ngrams import open_store
    from services.decoding.drafts.tuning import (
        ALPHAS,
        PREFIX,
        PREFIXES,
        TEMPERATURES,
        TOKENS,
        Tuned,
        TunedCatalogue,
        prefixes_of,
        trials,
    )

    resources, progress = job.resources, job.progress
    _, ngrams = job.inputs
    progress.step(0, 0, "loading the model")
    text = resources.artifacts.read_bytes(request.texts).decode(errors="replace")
    with worker_host(job).using(request.model, progress) as hosted:
        store = open_store(resources.artifacts, ngrams, resources.settings.state_dir / "ngrams")
        store.require(hosted.record.tokenizer_fingerprint)
        prefixes = prefixes_of(encode_text(hosted.tokenizer, text, "texts"), request.prefixes or PREFIXES)
        if not prefixes:
            raise InvalidArgument.field(
                Reason.DRAFT_SETTINGS_INVALID,
                "texts",
                f"The tuning text is shorter than {PREFIX + TOKENS} tokens. Send a few pages of representative text.",
            )
        response = TuneDraftsResponse(
            model_fingerprint=hosted.record.fingerprint,
            ngrams_artifact=ngrams,
            prefixes=len(prefixes),
        )
        points = len(ALPHAS) * len(TEMPERATURES)
        progress.step(0, points, "drafting")
        salt = prefix_salt(job.principal, "", resources.settings.engine_share_prefixes)
        for trial in trials(hosted.engine, store, prefixes, request.k or 3, progress.check, salt=salt):
            progress.partial(response.trials.add(**asdict(trial)))
            progress.step(len(response.trials), points)
    best = min(response.trials, key=lambda trial: trial.perplexity)
    tuned = Tuned(best.alpha, best.temperature, best.perplexity)
    TunedCatalogue(resources.redis, resources.settings.redis_prefix).put(
        ngrams, response.model_fingerprint, tuned
    )
    response.MergeFrom(TuneDraftsResponse(**asdict(tuned)))
    return response
