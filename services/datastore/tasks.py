"""The datastore room's jobs: sealing, merging, purging, computing token keys, calibrating, counting n-grams."""

from functools import lru_cache

from palimpsest.api.datastore.v1 import datastore_pb2 as pb
from palimpsest.engine import worker_host
from palimpsest.jobs import JobContext, WorkerResources, handler
from palimpsest.progress import Progress
from services.datastore import convert
from services.datastore.corpora import Corpora, mismatch
from services.datastore.search.search import Mode, Searched
from services.datastore.search.sessions import without_keys
from services.datastore.store.builds import build, compact
from services.datastore.store.catalogue import Opened
from services.datastore.store.keystore import KeyBlock
from services.datastore.store.purge import purge

_PASSAGES_AT_ONCE = 8


@lru_cache(1)
def _corpora(resources: WorkerResources) -> Corpora:
    """The corpora as this worker has them open, from one job to the next."""
    return Corpora(resources.settings, resources.models)


def _open(name: str, job: JobContext) -> tuple[Corpora, Opened]:
    corpora = _corpora(job.resources)
    return corpora, corpora.open(job.principal, name)


@handler("datastore.build_index", request=pb.BuildIndexRequest, response=pb.Corpus)
def build_index(request: pb.BuildIndexRequest, job: JobContext) -> pb.Corpus:
    """Seal what the logs hold."""
    corpora, opened = _open(request.corpus, job)
    encoder = corpora.encoder(opened.corpus.spec)
    build(opened.corpus, encoder, job.progress, segment_tokens=corpora.settings.segment_tokens)
    return convert.corpus_message(opened)


@handler("datastore.compact", request=pb.CompactRequest, response=pb.Corpus)
def compact_corpus(request: pb.CompactRequest, job: JobContext) -> pb.Corpus:
    """Merge segments and leave out the dead."""
    corpora, opened = _open(request.corpus, job)
    encoder = corpora.encoder(opened.corpus.spec)
    compact(opened.corpus, encoder, job.progress, segment_tokens=corpora.settings.segment_tokens)
    return convert.corpus_message(opened)


@handler("datastore.purge", request=pb.PurgeRequest, response=pb.PurgeReceipt)
def purge_corpus(request: pb.PurgeRequest, job: JobContext) -> pb.PurgeReceipt:
    """Take what was deleted off the disk, and prove it."""
    corpora, (corpus, keys) = _open(request.corpus, job)
    encoder = corpora.encoder(corpus.spec)
    receipt = purge(corpus, encoder, keys, job.progress, segment_tokens=corpora.settings.segment_tokens)
    return convert.receipt_message(request.corpus, receipt)


@handler("datastore.warm_keys", request=pb.WarmKeysRequest, response=pb.WarmKeysResult)
def warm_keys(request: pb.WarmKeysRequest, job: JobContext) -> pb.WarmKeysResult:
    """Compute the keys that are missing; what an earlier attempt has stored is there."""
    _, opened = _open(request.corpus, job)
    spec = opened.corpus.spec
    missing = without_keys(opened)
    result = pb.WarmKeysResult(corpus=request.corpus)
    job.progress.step(0, len(missing), "loading the model")
    if missing:
        with worker_host(job).using(spec.model, job.progress) as hosted:
            if hosted.record.fingerprint != spec.model_fingerprint:
                raise mismatch(spec, hosted.record.fingerprint)
            result.computed = _warm(opened, missing, hosted.engine, job.progress)
    result.key_bytes = opened.keys.size
    result.present = opened.keys.count() - result.computed
    return result


@handler("datastore.calibrate", request=pb.CalibrateRequest, response=pb.Corpus)
def calibrate(request: pb.CalibrateRequest, job: JobContext) -> pb.Corpus:
    """Choose the mixture's parameters, and keep them in the manifest."""
    from services.datastore.search.calibration import calibrate_corpus

    corpora, opened = _open(request.corpus, job)
    spec = opened.corpus.spec
    job.progress.step(0, 0, "loading the model")
    with worker_host(job).using(spec.model, job.progress) as hosted:
        if hosted.record.fingerprint != spec.model_fingerprint:
            raise mismatch(spec, hosted.record.fingerprint)

        def search(query: str, k: int) -> Searched:
            return corpora.search([opened], query, k, Mode.HYBRID, [])

        found = calibrate_corpus(opened, search, hosted.engine, job.progress)
    opened.corpus.calibrate(found.to_json())
    return convert.corpus_message(opened)


@handler("datastore.build_ngram_store", request=pb.BuildNgramStoreRequest, response=pb.NgramStore)
def build_ngram_store(request: pb.BuildNgramStoreRequest, job: JobContext) -> pb.NgramStore:
    """Count a text's n-grams into a store, and enter it in the catalogue; nothing of an earlier attempt is used."""
    from services.datastore.ngrams.spec import spec_of
    from services.datastore.ngrams.stores import NgramStores

    own = job.resources
    stores = NgramStores(own.settings, own.redis, own.artifacts, own.models, _corpora(own))
    return stores.build(job.principal, spec_of(request), f"{job.job_id}-{job.attempt}", job.progress)


def _warm(
    opened: Opened, missing: list[tuple[bytes, list[int], list[int]]], engine: object, progress: Progress
) -> int:
    """Compute and store the keys of some passages, a few at a time."""
    from palimpsest.candidates.keys import submit_keys

    fingerprint = opened.corpus.spec.model_fingerprint
    for at in range(0, len(missing), _PASSAGES_AT_ONCE):
        progress.step(at, len(missing), "computing keys")
        part = missing[at : at + _PASSAGES_AT_ONCE]
        computed = submit_keys(engine, [(ids, left) for _, ids, left in part]).result()  # type: ignore[arg-type]
        for (digest, _, _), keys in zip(part, computed, strict=True):
            opened.keys.put(digest, KeyBlock(keys.keys, keys.scales, keys.norms), fingerprint)
    progress.step(len(missing), len(missing))
    return len(missing)
