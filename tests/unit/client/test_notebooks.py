"""What notebooks show, and what the client's objects say of themselves."""

import palimpsest
from palimpsest.api.decoding.v1 import decoding_pb2
from palimpsest.api.models.v1 import models_pb2
from palimpsest.client import AsyncClient, Client, Draft, Drafts, Listing
from palimpsest.client.notebooks import messages_table
from palimpsest.client.quotes import CitedText

EVIL = "<script>alert(1)</script>"


def model(name: str, **fields: object) -> models_pb2.Model:
    return models_pb2.Model(model_id=name, **fields)  # type: ignore[arg-type]


def test_a_list_is_a_table_of_its_plain_fields_that_are_set():
    made = model(EVIL, relation=models_pb2.RELATION_FINE_TUNED, labels={"a": "b"})
    made.create_time.FromJsonString("2030-01-02T03:04:05Z")
    html = messages_table([made, model("b")])
    assert "<th>model_id</th>" in html
    assert "<td>fine_tuned</td>" in html
    assert "2030-01-02 03:04:05" in html
    assert "script>alert" not in html.replace("&lt;script&gt;alert", "")
    assert "parameter_count" not in html
    assert "labels" not in html
    assert messages_table([]) == "<p>(empty)</p>"


def pages(*names: list[str]) -> Listing[models_pb2.Model]:
    made = {
        str(at): models_pb2.ListModelsResponse(
            models=[model(name) for name in page], next_page_token=str(at + 1) if at + 1 < len(names) else ""
        )
        for at, page in enumerate(names)
    }
    return Listing(made["0"], "models", lambda token: made[token])


def test_a_list_iterates_over_all_its_pages_and_has_the_fields_of_the_first():
    found = pages(["a", "b"], [], ["c"])
    assert [m.model_id for m in found] == ["a", "b", "c"]
    assert [m.model_id for m in found] == ["a", "b", "c"], "again from the start"
    assert [m.model_id for m in found.models] == ["a", "b"]
    assert found.next_page_token == "1"
    assert repr(found) == "<Listing of 2 models, and more>"
    assert "and more" in found._repr_html_()
    assert list(pages([])) == []


def test_drafts_are_a_table():
    source = decoding_pb2.QuoteSource(
        corpus="corpora/c", document="d", title="Ink", uri="https://example.org/ink"
    )
    drafts = Drafts([Draft(EVIL, (1,), -1.5, (), 0.0, "length", "", 0.0, (source,), 0)])
    html = drafts._repr_html_()
    assert "&lt;script&gt;" in html
    assert "-1.500" in html
    assert '<a href="https://example.org/ink">Ink</a>' in html
    assert drafts == list(drafts)


def test_a_quoted_text_shows_its_quotes_and_sources():
    cited = CitedText()
    text = f"Ink & {EVIL}"
    cited.take(decoding_pb2.GenerateResponse(delta=decoding_pb2.GenerateDelta(text=text)))
    span = decoding_pb2.QuotedSpan(kind=decoding_pb2.QuotedSpan.KIND_SPAN, span_id=1)
    span.range.char_start, span.range.char_end = 0, 3
    span.sources.add(corpus="corpora/c", document="d", version=1, title="T", uri="javascript:alert(1)")
    cited.take(decoding_pb2.GenerateResponse(span=span))
    html = cited._repr_html_()
    assert "<mark>Ink</mark><sup>1</sup> &amp; &lt;script&gt;" in html
    assert "<li>T</li>" in html
    assert "javascript" not in html
    assert str(cited).startswith("Ink[1] & ")


def test_versions_and_clients_say_what_they_are():
    assert palimpsest.__version__ == "0.1.0"
    with Client("127.0.0.1:1") as client:
        assert repr(client) == "<Client 127.0.0.1:1>"
    assert "AsyncClient" in AsyncClient.__name__
