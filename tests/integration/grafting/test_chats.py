"""Cases that are chats, and positions by their roles, over a real socket."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from google.protobuf import json_format
from transformers import AutoModelForCausalLM, AutoTokenizer

from palimpsest.api.grafting.v1 import grafting_pb2 as pb
from palimpsest.errors import InvalidArgument, Reason
from palimpsest.jobs import JobContext
from palimpsest.models import register
from palimpsest.progress import NullProgress
from services.grafting.tasks import sweep
from tests.integration.grafting.test_grafts import CASE, EVERYTHING, LAST, PAIR

TALK = [
    {"role": "system", "content": "the quick fox"},
    {"role": "user", "content": "who jumps over the dog"},
    {"role": "assistant", "content": "the fox"},
    {"role": "user", "content": "and the lazy dog"},
]
CHAT = {"chat": TALK, "target": " sleeps"}


def rendered(folder: Path) -> tuple[Any, list[int]]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer, tokenizer.apply_chat_template(TALK, add_generation_prompt=True)["input_ids"]


async def test_a_chat_is_read_as_transformers_reads_it(client, folder):
    found = await client.grafting.graft(pair=PAIR, case=CHAT, patches=EVERYTHING)
    for reading, name in ((found.base, "base"), (found.reading, "tuned")):
        tokenizer, prompt = rendered(folder / name)
        target = tokenizer(" sleeps")["input_ids"]
        model = AutoModelForCausalLM.from_pretrained(folder / name)
        with torch.no_grad():
            logprobs = torch.log_softmax(model(torch.tensor([prompt + target])).logits[0].double(), -1)
        expected = sum(float(logprobs[len(prompt) - 1 + n, token]) for n, token in enumerate(target))
        assert reading.logprob == pytest.approx(expected, abs=1e-4)
    assert "".join(found.tokens) == tokenizer.decode(prompt)


async def test_roles_name_the_tokens_that_their_texts_are(client):
    for roles, spans in (
        ([{"role": "system"}], [{"text": "the quick fox"}]),
        ([{"role": "user", "message": -1}], [{"text": "and the lazy dog"}]),
        ([{"role": "user"}], [{"text": "who jumps over the dog"}, {"text": "and the lazy dog"}]),
        ([{"role": "generation"}], [{"text": "<|im_start|>assistant\n", "occurrence": 2}]),
        (
            [{"role": "assistant", "part": "ROLE_PART_WHOLE"}],
            [{"text": "<|im_start|>assistant\nthe fox<|im_end|>\n"}],
        ),
    ):
        by_role, by_text = [
            await client.grafting.graft(pair=PAIR, case=CHAT, patches=[{"positions": positions}])
            for positions in ({"roles": roles}, {"spans": spans})
        ]
        assert list(by_role.patches) == list(by_text.patches)
        assert by_role.reading == by_text.reading
    last = await client.grafting.graft(
        pair=PAIR,
        case=CHAT,
        patches=[{"positions": {"roles": [{"role": "user", "message": 2, "part": "ROLE_PART_LAST"}]}}],
    )
    assert sum(last.patches) == 1
    assert last.tokens[list(last.patches).index(1)].strip() == "dog"


async def test_a_text_goes_on_after_a_chat(client, folder):
    tokens = client.grafting.generate_grafted(pair=PAIR, chat=TALK, patches=EVERYTHING, max_new_tokens=5)
    _, prompt = rendered(folder / "tuned")
    model = AutoModelForCausalLM.from_pretrained(folder / "tuned")
    made = model.generate(torch.tensor([prompt]), max_new_tokens=5, do_sample=False)[
        0, len(prompt) :
    ].tolist()
    assert [token.token async for token in tokens] == made


async def test_rows_of_a_sweep_are_roles(client, resources):
    rows = [
        {"name": "last user", "positions": {"roles": [{"role": "user", "message": -1}]}},
        {"name": "reply", "positions": {"roles": [{"role": "generation"}]}},
        {
            "name": "rest",
            "positions": {"roles": [{"role": "user"}, {"role": "generation"}], "complement": True},
        },
    ]
    fields = {
        "pair": PAIR,
        "cases": [CHAT, {**CHAT, "chat": TALK[1:]}],
        "axes": {"positions": rows, "window": 2},
    }
    request = json_format.ParseDict(fields, pb.SweepGraftsRequest())
    done = sweep(request, JobContext("sweep", "local", 1, NullProgress(), resources))
    table = json.loads(resources.artifacts.read_bytes(done.table.digest))
    for case, asked in zip(table["cases"], fields["cases"], strict=True):
        assert case["prompt"].endswith("<|im_start|>assistant\n")
        for cell, row in zip(case["cells"], rows, strict=True):
            alone = await client.grafting.graft(
                pair=PAIR, case=asked, patches=[{"positions": row["positions"]}]
            )
            assert cell["reading"]["logprob"] == pytest.approx(alone.reading.logprob, abs=1e-4)
    plan = await client.grafting.plan_grafts(**fields)
    assert plan.cells == done.cells


USER = [{"positions": {"roles": [{"role": "user"}]}}]
BAD: dict[str, tuple[dict[str, Any], Reason, str]] = {
    "a prompt and a chat": ({"case": {**CHAT, "prompt": "the"}}, Reason.INVALID_REQUEST, "case.chat"),
    "neither": ({"case": {"target": " the"}}, Reason.PROMPT_EMPTY, "case.prompt"),
    "roles of a prompt": ({"case": CASE, "patches": USER}, Reason.INVALID_REQUEST, "patches[0].positions.roles[0]"),
    "a role that says nothing": (
        {"case": {**CHAT, "chat": TALK[1:2]}, "patches": [{"positions": {"roles": [{"role": "system"}]}}]},
        Reason.SPAN_NOT_FOUND, "patches[0].positions.roles[0]",
    ),
    "a base without a template": (
        {"case": CHAT, "pair": {"base": "wordless", "donor": "tuned"}}, Reason.NO_CHAT_TEMPLATE, "case.chat",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def wordless(resources, folder: Path) -> None:
    """The base without a chat template."""
    copy = Path(shutil.copytree(folder / "base", folder / "wordless"))
    (copy / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((copy / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (copy / "tokenizer_config.json").write_text(json.dumps(config))
    register("wordless", str(copy), resources.models, resources.settings, NullProgress())


@pytest.mark.parametrize("name", list(BAD))
async def test_chats_that_cannot_be_read_are_told_by_reason_and_field(client, wordless, name: str):
    fields, reason, place = BAD[name]
    with pytest.raises(InvalidArgument) as caught:
        await client.grafting.graft(**{"pair": PAIR, "patches": LAST, **fields})
    assert caught.value.reason == reason
    assert [v.field for v in caught.value.violations] == [place]
