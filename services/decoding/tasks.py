"""The decoding room's jobs: generating for a JSONL artefact, with checkpoints."""

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import islice
from typing import Any

from palimpsest.api.decoding.v1.decoding_pb2 import (
    GenerateBatchRequest,
    GenerateBatchResponse,
    TuneDraftsRequest,
    TuneDraftsResponse,
)
from palimpsest.artifacts import ArtifactStore
from palimpsest.engine import worker_host
from palimpsest.errors import InvalidArgument, Reason
from palimpsest.jobs import JobContext, handler
from palimpsest.progress import Drain
from services.decoding.sharing import prefix_salt

MEDIA_TYPE = "application/jsonl"

_LINES_PER_CHECKPOINT = 500


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
    from palimpsest.engine import Request
    from services.decoding.batch import Totals, generate_lines
    from services.decoding.constraints import bad_word_ids, form_of
    from services.decoding.convert import DEFAULT_MAX_TOKENS, sampling_of
    from services.decoding.lines import read_lines

    progress, artifacts = job.progress, job.resources.artifacts
    progress.step(0, 0, "reading")
    with artifacts.open(request.input) as file:
        total = sum(1 for _ in read_lines(file))
    if total == 0:
        raise InvalidArgument(
            Reason.BATCH_EMPTY, "The input artefact is empty. Send one JSON object per line."
        )
    chunks = _Chunks(artifacts, job)
    totals = Totals(**chunks.totals)
    logprobs = request.logprobs if request.HasField("logprobs") else -1
    seeded = request.sampling.seed if request.sampling.HasField("seed") else None
    defaults = Request(
        ids=(),
        sampling=sampling_of(request.sampling, seed=0),
        n=request.n or 1,
        max_tokens=request.max_tokens or DEFAULT_MAX_TOKENS,
        stop=tuple(request.stop),
        logprobs=None if logprobs < 0 else logprobs,
        salt=prefix_salt(job.principal, "", job.resources.settings.engine_share_prefixes),
        min_tokens=request.min_tokens,
        stop_ids=frozenset(request.stop_token_ids),
    )
    form = form_of(request.structured) if request.HasField("structured") else None
    progress.step(chunks.lines, total, "loading the model")
    with worker_host(job).using(request.model, progress) as hosted, artifacts.open(request.input) as file:
        settings, salt = job.resources.settings, f"{request.input}/{hosted.record.fingerprint}"
        window = min(2 * settings.engine_max_running, settings.engine_queue_limit)
        lines: Iterator[tuple[int, bytes]] = islice(enumerate(read_lines(file)), chunks.lines, None)
        progress.step(chunks.lines, total, "generating")
        defaults = replace(
            defaults,
            bad_words=bad_word_ids(hosted.tokenizer, request.bad_words),
            grammar=None if form is None else hosted.grammars.compile(form),
        )
        results = generate_lines(hosted, lines, defaults, salt, window, progress.check, seeded)
        try:
            for result in results:
                for name, count in asdict(result.totals).items():
                    setattr(totals, name, getattr(totals, name) + count)
                chunks.add(result.text, asdict(totals))
                progress.step(chunks.lines, total)
        except Drain:
            chunks.save()
            raise
        finally:
            results.close()  # type: ignore[attr-defined]
    output = chunks.join()
    return GenerateBatchResponse(output=output.message(), **asdict(totals))


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
