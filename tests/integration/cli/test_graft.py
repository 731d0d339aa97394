"""``palimpsest graft`` against the real stack: what it prints, for people and for programs."""

import json

import pytest

from palimpsest import Client
from palimpsest.cli.output.exits import Exit
from tests.tiny import write_tiny_model

PROMPT = ("--prompt", "the quick brown fox and the dog", "--target", " jumps")


@pytest.fixture(scope="module")
def donor(stack, tmp_path_factory) -> str:
    folder = write_tiny_model(tmp_path_factory.mktemp("donor"), seed=5)
    with Client(stack.target, token=stack.token) as client:
        client.models.register_model(model_id="cli-donor", source=str(folder)).result(timeout=60)
    return "cli-donor"


def test_a_pair_is_checked_grafted_and_swept(palimpsest, cli_model, donor, tmp_path):
    pair = (cli_model, donor)
    checked = palimpsest("graft", "check", *pair, "--prompt", "the quick")
    assert checked.code == 0, checked.err
    assert "llama, 2 layers" in checked.out
    assert "one matrix" in checked.out
    assert palimpsest("graft", "check", *pair, "--json").json["compatible"] is True

    places = ("--at", "brown fox", "--at", "the#2", "--at", "-1", "--layers", "1:", "--components", "o,ffn")
    shown = palimpsest("graft", "run", *pair, *PROMPT, *places)
    assert shown.code == 0, shown.err
    assert "recovery" in shown.out
    found = palimpsest("graft", "run", *pair, *PROMPT, *places, "--json").json
    assert "".join(t for t, n in zip(found["tokens"], found["patches"], strict=True) if n).split() == [
        "brown", "fox", "the", "dog",
    ]  # fmt: skip

    more = ("--weight", "2", "--source", "0", "--contrast", " dog")
    assert "target ahead by" in palimpsest("graft", "run", *pair, *PROMPT, *places, *more).out

    file = tmp_path / "cells.json"
    swept = palimpsest("graft", "sweep", *pair, *PROMPT, "--window", 2, "--out", file)
    assert swept.code == 0, swept.err
    assert "cells" in swept.err
    table = json.loads(file.read_text())
    assert len(table["cases"][0]["cells"]) == len(table["cases"][0]["tokens"])
    again = palimpsest("graft", "sweep", *pair, *PROMPT, "--window", 2, "--json").json
    assert again == table


def test_a_grafted_text_is_written_and_a_sweep_is_planned(palimpsest, cli_model, donor):
    pair = (cli_model, donor)
    made = ("graft", "generate", *pair, *PROMPT[:2], "--at", "-1", "--max-tokens", 4)
    written = palimpsest(*made)
    assert written.code == 0, written.err
    tokens = [json.loads(line) for line in palimpsest(*made, "--json").out.splitlines()]
    assert "".join(token["text"] for token in tokens) == written.out[:-1]
    assert palimpsest(*made, "--decoding", "mine").code == Exit.USAGE

    planned = palimpsest("graft", "plan", *pair, *PROMPT, "--window", 2)
    assert planned.code == 0, planned.err
    assert "row-layers" in planned.out
    count = palimpsest("graft", "plan", *pair, *PROMPT, "--window", 2, "--json").json["cells"]
    table = palimpsest("graft", "sweep", *pair, *PROMPT, "--window", 2, "--json").json
    assert count == len(table["cases"][0]["cells"])


def test_subsets_previews_and_sets_are_shown(palimpsest, cli_model, donor):
    pair = (cli_model, donor)
    places = ("--at", "quick brown", "--at", "dog", "--window", 2, "--subsets", "--sufficient", "0.5")
    two = (*PROMPT, "--prompt", "a dog and quick brown it", "--target", " fox")
    shown = palimpsest("graft", "sweep", *pair, *two, *places)
    assert shown.code == 0, shown.err
    assert all(
        word in shown.out for word in ("quick brown+dog", "Shapley value", "interaction", "95 % interval")
    )
    assert "case 1, layers 0 to 1" in shown.err

    shown = palimpsest("graft", "sweep", *pair, *PROMPT, "--preview", "--verify-top", 3, "--verify-random", 4)
    assert shown.code == 0, shown.err
    assert "estimated change" in shown.out
    assert "7 of" in shown.err

    odd = palimpsest("graft", "sweep", *pair, *PROMPT, "--prompt", "the")
    assert odd.code == Exit.USAGE
    assert palimpsest("graft", "sweep", *pair, *PROMPT, "--drops", 2).code == Exit.USAGE


def test_sources_and_contrasts_of_a_sweep_are_shown(palimpsest, cli_model, donor):
    pair = (cli_model, donor)
    options = (*PROMPT, "--window", 2, "--source", "0", "--source", "0:2", "--contrast", " dog")
    shown = palimpsest("graft", "sweep", *pair, *options)
    assert shown.code == 0, shown.err
    assert f"from {donor} x 2" in shown.out
    assert "ahead of the contrast by" in shown.out
    table = palimpsest("graft", "sweep", *pair, *options, "--json").json
    assert {cell["weight"] for cell in table["cases"][0]["cells"]} == {1, 2}
    planned = palimpsest("graft", "plan", *pair, *options, "--json").json
    assert planned["cells"] == len(table["cases"][0]["cells"])
    assert palimpsest("graft", "sweep", *pair, *PROMPT, "--source", "two").code == Exit.USAGE
    two = ("--contrast", " dog", "--contrast", " fox")
    assert palimpsest("graft", "sweep", *pair, *PROMPT, *two).code == Exit.USAGE


def test_roles_of_a_chat_are_places(palimpsest, cli_model, donor):
    pair = (cli_model, donor)
    places = ("--system", "be quick", "--at", "role:user:-1:last", "--at", "role:generation")
    found = palimpsest("graft", "run", *pair, *PROMPT, *places, "--json").json
    grafted = "".join(t for t, n in zip(found["tokens"], found["patches"], strict=True) if n)
    assert grafted.endswith("<|im_start|>assistant\n")
    table = palimpsest("graft", "sweep", *pair, *PROMPT, *places, "--window", 2, "--json").json
    assert [c["position"] for c in table["cases"][0]["cells"]] == ["role:user:-1:last", "role:generation"]
    assert palimpsest("graft", "plan", *pair, *PROMPT, *places, "--window", 2, "--json").json["cells"] == 2
    made = palimpsest("graft", "generate", *pair, *PROMPT[:2], *places, "--max-tokens", 2)
    assert made.code == 0, made.err
    assert palimpsest("graft", "run", *pair, *PROMPT, "--at", "role:user").code == Exit.USAGE
    assert palimpsest("graft", "run", *pair, *PROMPT, "--at", "role:user:most").code == Exit.USAGE


def test_what_cannot_be_grafted_is_said_with_an_exit_code(palimpsest, cli_model, donor):
    refused = palimpsest("graft", "run", cli_model, donor, *PROMPT, "--at", "cat", "--json")
    assert refused.code == Exit.USAGE
    assert "SPAN_NOT_FOUND" in refused.err
    assert palimpsest("graft", "run", cli_model, donor, *PROMPT, "--layers", "one").code == Exit.USAGE
    assert palimpsest("graft", "check", cli_model, "nobody").code == Exit.NOT_FOUND
