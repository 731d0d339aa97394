"""The tour's stop at grafting, with a tiny model: a sentence is learnt, swept and drawn."""

from palimpsest import Client
from palimpsest.cli.demo import grafting
from palimpsest.cli.demo.steps import Context
from palimpsest.embedded.link import Link


def test_a_sentence_is_learnt_and_its_map_is_written(stack, cli_model, tmp_path):
    with Client(stack.target, token=stack.token) as client, Link(1e9) as link:
        rows = grafting.graft(Context(client, tmp_path, link), cli_model, window=1)
        client.models.delete_model(model_id=grafting.TAUGHT)
    told = {row.what.partition(":")[0]: row.figures for row in rows}
    words = told["the answer's probability"].replace("−", "-").split()
    base, donor = (float(word) for word in words if word[0].isdigit())
    assert base < donor
    for path in ("Enrichment, before the last token", "Recall, at the last token", "Both together"):
        assert told[path].endswith("of the way from the base to keeper")
    page = (tmp_path / "grafts.html").read_text()
    assert told["its map, as a page (kept with --state-dir)"] == str(tmp_path / "grafts.html")
    assert "as many whole passes take" in page
    assert 'role="grid"' in page
