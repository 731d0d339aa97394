"""``palimpsest corpus list`` and ``corpus show``: corpora and their documents as tables and fields."""

from typing import Annotated

import typer

from palimpsest.api.datastore.v1 import datastore_pb2
from palimpsest.cli.names import corpus_name
from palimpsest.cli.output import printing as output
from palimpsest.cli.output.paging import all_pages
from palimpsest.cli.session import Session
from palimpsest.client import Client

Name = Annotated[str, typer.Argument(metavar="CORPUS", help="corpora/ID, or the ID alone.")]


def all_corpora(client: Client) -> list[datastore_pb2.Corpus]:
    """Return all corpora of the caller, by name."""
    return all_pages(client.datastore.list_corpora, "corpora")


def list_(
    session: Session,
    name: Annotated[
        str, typer.Argument(metavar="CORPUS", help="List this corpus's documents. Default: list corpora.")
    ] = "",
) -> None:
    """List corpora, or the documents of one corpus."""
    with session.client() as client:
        if name:
            _list_documents(session, client, corpus_name(name))
            return
        corpora = all_corpora(client)
    if session.json:
        output.print_json([output.plain(corpus) for corpus in corpora])
        return
    rows = [
        (c.name, c.model, c.document_count, c.passage_count, c.token_count, output.when(c.create_time))
        for c in corpora
    ]
    output.print_table(["corpus", "model", ">documents", ">passages", ">tokens", "created"], rows)


def _list_documents(session: Session, client: Client, name: str) -> None:
    token, rows = "", []
    while True:
        page = client.datastore.list_documents(corpus=name, page_size=1000, page_token=token)
        rows += page.documents
        token = page.next_page_token
        if not token:
            break
    if session.json:
        output.print_json([output.plain(document) for document in rows])
        return
    output.print_table(
        ["document", ">version", ">size", ">tokens", "added"],
        [
            (d.document, d.version, output.size(d.size_bytes), d.token_count, output.when(d.create_time))
            for d in sorted(rows, key=lambda d: d.document)
        ],
    )


def show(
    session: Session,
    name: Name,
    document: Annotated[
        str, typer.Argument(metavar="DOCUMENT", help="Show this document. Default: show the corpus.")
    ] = "",
) -> None:
    """Show a corpus, or one of its documents."""
    with session.client() as client:
        if document:
            session.show(client.datastore.stat_document(corpus=corpus_name(name), document=document))
            return
        found = client.datastore.get_corpus(name=corpus_name(name))
    show_corpus(session, found)


def show_corpus(session: Session, corpus: datastore_pb2.Corpus) -> None:
    """Print a corpus."""
    if session.json:
        output.print_json(corpus)
        return
    fields: dict[str, object] = {
        "name": corpus.name,
        "model": corpus.model,
        "encoder": corpus.encoder,
        "documents": corpus.document_count,
        "passages": f"{corpus.passage_count} of {corpus.passage_tokens} tokens, {corpus.key_blocks} with keys",
        "tokens": f"{corpus.token_count}, {corpus.unsealed_tokens} unsealed",
        "segments": corpus.segment_count,
        "size": f"{output.size(corpus.size_bytes)}, including {output.size(corpus.key_bytes)} of keys",
        "epoch": corpus.epoch,
    }
    if corpus.quarantined_segments or corpus.lost_records:
        segments = ", ".join(corpus.quarantined_segments) or "no segments"
        fields["damaged"] = f"{segments}; {corpus.lost_records} log records"
    if corpus.labels:
        fields["labels"] = dict(corpus.labels)
    output.print_fields(fields)
