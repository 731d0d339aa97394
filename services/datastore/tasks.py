"""The datastore room's jobs: sealing, compaction, purging, token keys, calibration, and n-gram stores."""

from functools import lru_cache
from typing import TYPE_CHECKING

from palimpsest.api.datastore.v1 import datastore_pb2 as pb
from palimpsest.engine import worker_host
from palimpsest.jobs import JobContext, WorkerResources, handler
from palimpsest.progress import Progress
from services.datastore import convert
from services.datastore.corpora import Corpora, mismatch
from services.datastore.search.passage_keys import MissingKeys, without_keys
from services.datastore.search.passages import SearchMode, SearchResults
from services.datastore.store.builds import build, compact
from services.datastore.store.catalogue import OpenCorpus
from services.datastore.store.keystore import KeyBlock
from services.datastore.store.purge import purge

if TYPE_CHECKING:
    from palimpsest.engine import Engine

_PASSAGES_AT_ONCE = 8


@lru_cache(1)
def _corpora(resources: WorkerResources) -> Corpora:
    """The corpora of this worker, which stay open from one job to the next."""
    return Corpora(resources.settings, resources.models)


def _open(name: str, job: JobContext) -> tuple[Corpora, OpenCorpus]:
    corpora = _corpora(job.resources)
    return corpora, corpora.open(job.principal, name)


@handler("datastore.build_index", request=pb.BuildIndexRequest, response=pb.Corpus, seconds=6 * 3600.0)
def build_index(request: pb.BuildIndexRequest, job: JobContext) -> pb.Corpus:
    """Seal the documents in the logs."""
    corpora, opened = _open(request.corpus, job)
    encoder = corpora.encoder(opened.corpus.spec)
    build(opened.corpus, encoder, job.progress, segment_tokens=corpora.settings.segment_tokens)
    return convert.corpus_message(opened)


@handler("datastore.compact", request=pb.CompactRequest, response=pb.Corpus, seconds=6 * 3600.0)
def compact_corpus(request: pb.CompactRequest, job: JobContext) -> pb.Corpus:
    """Merge segments, and drop deleted documents from them."""
    corpora, opened = _open(request.corpus, job)
    encoder = corpora.encoder(opened.corpus.spec)
    compact(opened.corpus, encoder, job.progress, segment_tokens=corpora.settings.segment_tokens)
    return convert.corpus_message(opened)


@handler("datastore.purge", request=pb.PurgeRequest, response=pb.PurgeReceipt, seconds=6 * 3600.0)
def purge_corpus(request: pb.PurgeRequest, job: JobContext) -> pb.PurgeReceipt:
    """Remove deleted bytes from the disk, and prove it."""
    corpora, (corpus, keys) = _open(request.corpus, job)
    encoder = corpora.encoder(corpus.spec)
    receipt = purge(corpus, encoder, keys, job.progress, segment_tokens=corpora.settings.segment_tokens)
    return convert.receipt_message(request.corpus, receipt)


@handler("datastore.warm_keys", request=pb.WarmKeysRequest, response=pb.WarmKeysResult, seconds=6 * 3600.0)
def warm_keys(request: pb.WarmKeysRequest, job: JobContext) -> pb.WarmKeysResult:
    """Compute the missing keys; keys stored by an earlier attempt are not computed again."""
    _, opened = _open(request.corpus, job)
    spec = opened.corpus.spec
    missing = without_keys(opened)
    result = pb.WarmKeysResult(corpus=request.corpus)
    job.progress.step(0, len(missing), "loading the model")
    if missing:
        with worker_host(job).using(spec.model, job.progress) as hosted:
            if hosted.record.fingerprint != spec.model_fingerprint:
                raise mismatch(spec, hosted.record.fingerprint)
            result.computed = _compute_keys(opened, missing, hosted.engine, job.progress)
    result.key_bytes = opened.keys.size
    result.present = opened.keys.count() - result.computed
    return result


@handler("datastore.calibrate", request=pb.CalibrateRequest, response=pb.Corpus, seconds=6 * 3600.0)
def calibrate(request: pb.CalibrateRequest, job: JobContext) -> pb.Corpus:
    """Choose the mixture's parameters, and store them in the manifest."""
    from services.datastore.search.calibration import calibrate_corpus

    corpora, opened = _open(request.corpus, job)
    spec = opened.corpus.spec
    job.progress.step(0, 0, "loading the model")
    with worker_host(job).using(spec.model, job.progress) as hosted:
        if hosted.record.fingerprint != spec.model_fingerprint:
            raise mismatch(spec, hosted.record.fingerprint)

        def search(query: str, k: int) -> SearchResults:
            return corpora.search([opened], query, k, SearchMode.HYBRID, [])

        found = calibrate_corpus(opened, search, hosted.engine, job.progress)
    opened.corpus.calibrate(found.to_json())
    return convert.corpus_message(opened)


@handler(
    "datastore.build_ngram_store",
    request=pb.BuildNgramStoreRequest,
    response=pb.NgramStore,
    seconds=6 * 3600.0,
)
def build_ngram_store(request: pb.BuildNgramStoreRequest, job: JobContext) -> pb.NgramStore:
    """Count a text's n-grams into a store and catalogue it. Each attempt starts from scratch."""
    from services.datastore.ngrams.spec import spec_of
    from services.datastore.ngrams.stores import NgramStores

    own = job.resources
    stores = NgramStores(own.settings, own.redis, own.artifacts, own.models, _corpora(own))
    return stores.build(job.principal, spec_of(request), f"{job.job_id}-{job.attempt}", job.progress)


def _compute_keys(
    opened: OpenCorpus, missing: list[MissingKeys], engine: "Engine", progress: Progress
) -> int:
    """Compute and store the keys of some passages, a few at a time; returns how many."""
    from palimpsest.candidates.keys import submit_keys

    fingerprint = opened.corpus.spec.model_fingerprint
    for at in range(0, len(missing), _PASSAGES_AT_ONCE):
        progress.step(at, len(missing), "computing keys")
        batch = missing[at : at + _PASSAGES_AT_ONCE]
        computed = submit_keys(engine, [(each.tokens, each.left_context) for each in batch]).result()
        for passage, keys in zip(batch, computed, strict=True):
            opened.keys.put(passage.digest, KeyBlock(keys.keys, keys.scales, keys.norms), fingerprint)
    progress.step(len(missing), len(missing))
    return len(missing)
