"""Texts continued over real calls: from documents that are built or not, and never from those that are gone."""

import pytest

from palimpsest.errors import FailedPrecondition, Reason
from tests.integration.datastore.shared import FACTS, add, add_all, block_of
from tests.rooms import worker_resources
from tests.tiny import write_tiny_model


async def continued(client, corpus, text: str, **fields):
    return await client.datastore.continue_text(corpora=[corpus.name], text=text, longest=32, **fields)


async def test_a_text_is_continued_with_the_bytes_of_its_source(client, corpus, run):
    await add_all(client, corpus, {**FACTS, "copy": FACTS["grace"]})
    data = FACTS["grace"].encode()
    for _ in range(2):
        found = await continued(client, corpus, "It is told that Grace Hopper found a moth", length=6)
        (only,) = found.continuations
        assert (only.count, found.occurrence_count, len(only.occurrences)) == (2, 2, 2)
        assert {each.document for each in only.occurrences} == {"grace", "copy"}
        assert len(only.token_ids) == 6
        for each in only.occurrences:
            assert data[each.match_byte_end : each.continuation_byte_end] == only.text
            assert data[each.match_byte_start : each.match_byte_end].endswith(b"Hopper found a moth")
            assert (each.corpus, each.version, each.title) == (corpus.name, 1, f"About {each.document}")
            stat = await client.datastore.stat_document(corpus=corpus.name, document=each.document)
            assert each.document_sha256 == stat.sha256
        assert found.epochs[corpus.name] > 0
        run("build_index", corpus)
    # By its ids a continuation is continued: a document can be read on to its end.
    text, last, ids = only.text, only, list(only.token_ids)
    while last is not None:
        more = await client.datastore.continue_text(
            corpora=[corpus.name], tokens={"ids": ids}, length=5, longest=32
        )
        last = more.continuations[0] if more.matched_tokens >= min(32, len(ids)) else None
        if last is not None:
            text, ids = text + last.text, ids + list(last.token_ids)
    assert data.endswith(b"found a moth" + text)
    assert text.endswith(b"first compiler.")


async def test_who_is_gone_continues_nothing(client, corpus, run):
    await add_all(client, corpus, FACTS)
    asked = "Alan Turing asked whether"
    assert (await continued(client, corpus, asked)).continuations[0].text.startswith(b" machines can think")
    await add(client, corpus, {"alan": "Alan Turing asked whether anybody was at home."})
    (only,) = (await continued(client, corpus, asked)).continuations
    assert only.text.startswith(b" anybody")
    assert only.occurrences[0].version == 2
    run("build_index", corpus)
    await client.datastore.delete_documents(corpus=corpus.name, documents=["alan"])
    assert not (await continued(client, corpus, asked, shortest=12)).continuations


async def test_nothing_stands_in_an_empty_corpus(client, corpus):
    found = await continued(client, corpus, "Anything at all")
    assert (found.matched_tokens, found.occurrence_count, len(found.continuations)) == (0, 0, 0)


async def test_corpora_of_two_models_are_not_continued_together(client, corpus, resources, tmp_path):
    folder = write_tiny_model(tmp_path / "second-llama", seed=2)
    worker_resources(resources.settings, second=folder)
    other = await client.datastore.create_corpus(
        corpus_id="of-second", model="second", encoder="hashed-words"
    )
    with pytest.raises(FailedPrecondition) as refused:
        await client.datastore.continue_text(corpora=[corpus.name, other.name], text="x")
    assert refused.value.reason == Reason.CORPUS_MODEL_MISMATCH


async def test_a_session_has_the_passage_a_prompt_breaks_off_in(client, corpus, run):
    long = " ".join(f"Line {n} of the log says nothing of interest." for n in range(8))
    await add_all(client, corpus, {**FACTS, "log": long})
    run("build_index", corpus)  # vectors that come a moment later would change scores between two calls
    plain = await block_of(client, corpus, "moth relay compiler", passages=2)
    assert {p.document for p in plain.passages} == {"grace"}
    (found,) = (await continued(client, corpus, "Line 4 of the log says nothing of", length=24)).continuations
    (place,) = found.occurrences
    assert b"Line 5" in found.text  # and so it stands there once
    ids = found.token_ids
    block = await block_of(client, corpus, "moth relay compiler", passages=2, prompt_tail=ids)
    assert [(p.document, p.score) for p in block.passages[:2]] == [
        (p.document, p.score) for p in plain.passages
    ]
    added = block.passages[2:]
    assert 1 <= len(added) <= 2
    assert {p.document for p in added} == {"log"}
    assert added[0].score == plain.passages[-1].score
    end = place.continuation_byte_end
    assert added[0].byte_start <= end < added[0].byte_start + len(added[0].text)
    same = await block_of(client, corpus, "moth relay compiler", passages=2, prompt_tail=list(range(20)))
    assert same.passages == plain.passages
