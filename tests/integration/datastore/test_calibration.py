"""A corpus calibrated by its job, and that what was found is what generation goes by."""

import dataclasses

import pytest

from palimpsest.candidates import Calibration, Candidates
from palimpsest.errors import FailedPrecondition, Reason
from tests.integration.datastore.shared import add_all

SENTENCES = [
    "the quick brown fox jumps over the lazy dog and goes home. ",
    "Fixtures every kind of test shares: a real Valkey, two models. ",
    "settings in a scratch folder outlive no test, not even this one. ",
]


def texts(count: int) -> dict[str, str]:
    """Documents that share sentences, in another order each."""
    return {
        f"d{n}": "".join(SENTENCES[(n + k * (1 + n % 2)) % 3] for k in range(8)) + f"Number {n}."
        for n in range(count)
    }


async def test_what_was_found_is_kept_and_used(client, corpus, run):
    await add_all(client, corpus, texts(6))
    run("build_index", corpus)  # all have their vectors: what is found does not change any more
    found = run("calibrate", corpus).calibration
    assert found.positions > 64
    assert found.model_fingerprint == corpus.model_fingerprint
    assert 0 < found.nll < found.nll_lm  # a random model has everything to learn from copies
    assert (await client.datastore.get_corpus(name=corpus.name)).calibration == found
    # The same again is the same again, and jobs that write the corpus anew keep it.
    assert run("calibrate", corpus).calibration == found
    await add_all(client, corpus, {"late": "A late one."})
    run("build_index", corpus)
    run("compact", corpus)
    assert (await client.datastore.get_corpus(name=corpus.name)).calibration == found
    block = await client.datastore.session(
        corpora=[corpus.name], query="the quick brown fox", model_fingerprint=corpus.model_fingerprint
    )
    used = Candidates.from_bytes(block).calibrations[corpus.name]
    for field in dataclasses.fields(Calibration):
        name = "model_fingerprint" if field.name == "model" else field.name
        assert getattr(used, field.name) == getattr(found, name), field.name


@pytest.mark.parametrize("count", [0, 1])
async def test_too_little_text_is_refused_by_the_job(client, corpus, run, count):
    await add_all(client, corpus, texts(count))
    with pytest.raises(FailedPrecondition) as refused:
        run("calibrate", corpus)
    assert refused.value.reason == Reason.CALIBRATION_EMPTY


async def test_the_call_queues_a_job(client, corpus):
    job = await client.datastore.calibrate(corpus=corpus.name)
    assert (await job.progress()).kind == "datastore.calibrate"


async def test_documents_that_are_in_the_log_alone_are_sampled_too(client, corpus, run):
    await add_all(client, corpus, texts(6))
    assert run("calibrate", corpus).calibration.positions > 64
