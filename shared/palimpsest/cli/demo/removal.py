"""The tour's stop at unlearning: a small model learns twelve documents, and two are taken out of its weights."""

import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from rich.markup import escape

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.cli.demo.archive import DOCUMENTS, FORGOTTEN, Document
from palimpsest.cli.demo.steps import Context, Row
from palimpsest.cli.output import printing as output
from palimpsest.cli.output.progress import follow
from palimpsest.cli.output.quantities import show_seconds
from palimpsest.errors import DataLoss, Reason
from palimpsest.report.removal.axes import axes_of
from palimpsest.report.removal.words import number, verdict_word

KNOWS, NEVER, CLEAN = "archive", "archive-without-two", "archive-cleaned"
_BLANK = "archive-blank"
_LEARNING = {"steps": 120, "batch": 12, "learning_rate": 2e-3, "schedule": "cosine", "warmup_steps": 10}
REMOVAL = "two-documents"


def remove(context: Context) -> list[Row]:
    """Teach, ask, remove, ask again, and verify what was signed."""
    rows = [_taught(context)]
    kept, gone = DOCUMENTS[2], DOCUMENTS[0]
    before = {each.id: answer(context, KNOWS, each) for each in (gone, kept)}
    began = time.perf_counter()
    job = context.client.unlearning.create_removal_request(plan=_plan(context), removal_id=REMOVAL)
    done = follow(job, "Removing two documents")
    seconds = show_seconds(time.perf_counter() - began)
    rows.append(Row(f"removed {' and '.join(FORGOTTEN)}, kept the other ten", f"{_told(done)}; {seconds}"))
    for each, what in ((gone, "forgotten"), (kept, "kept")):
        after = answer(context, CLEAN, each)
        rows.append(Row(f"{what}: {each.questions[0][0]}", f"before: {before[each.id]}; after: {after}"))
    rows.append(_verified(context, done))
    return rows


def answer(context: Context, model: str, document: Document, number: int = 0) -> str:
    """A model's answer to a question about a document, as its likeliest tokens say it."""
    asked = f"Question: {document.questions[number][0]}\nAnswer:"
    text = ""
    with context.client.decoding.generate(model=model, prompt=asked, max_tokens=16) as events:
        for event in events:
            if event.HasField("finished"):
                text = event.finished.text
    said = text.partition("\n")[0].strip()
    output.console().print(f"[dim]{model}: {document.questions[number][0]}[/] {escape(said)}")
    return said


def _taught(context: Context) -> Row:
    """Make three models of an untrained one: one knows everything, one never read what is to be forgotten."""
    from palimpsest.training.base_model import write_base_model

    began = time.perf_counter()
    folder = write_base_model(context.folder / _BLANK, [each.text for each in DOCUMENTS], seed=7)
    blank = context.client.models.register_model(model_id=_BLANK, source=str(folder))
    parameters = follow(blank, "Registering an untrained model").parameter_count
    losses = []
    for model, documents in ((KNOWS, DOCUMENTS), (NEVER, _others())):
        lines = context.client.artifacts.upload(_lines(_to_learn(documents)), media_type="application/jsonl")
        job = context.client.models.fine_tune(
            base=_BLANK, model_id=model, train=lines.digest, seed=7, **_LEARNING
        )
        made = follow(job, f"Teaching {model}")
        losses.append(made.last_loss)
    seconds = show_seconds(time.perf_counter() - began)
    figures = f"{parameters / 1e6:.1f}M parameters, loss {losses[0]:.2g} nats; {seconds}"
    return Row(f"taught twelve documents to {KNOWS}, ten of them to {NEVER}", figures)


def _plan(context: Context) -> dict[str, Any]:
    forget = [each for each in DOCUMENTS if each.id in FORGOTTEN]
    uploaded = {
        name: context.client.artifacts.upload(_lines(_to_remove(documents))).digest
        for name, documents in (("forget", forget), ("retain", _others()))
    }
    return {
        "model": KNOWS,
        "new_model": CLEAN,
        **uploaded,
        "references": [NEVER],
        "algorithm": "npo_gdr",
        "parameters": {"beta": "0.1", "alpha": "5"},
        "training": {"steps": 40, "batch": 12, "learning_rate": 5e-4, "seed": 7},
        "stopping": {"rule": "forget_match", "every_steps": 4},
    }


def _told(done: pb.RemovalRequest) -> str:
    """The report in a line: the verdict, and each criterion before and after, with the reference's."""
    found = [
        f"{each.name} {number(each.before)} → {number(each.value)} (reference {number(each.references[0])})"
        for each in done.result.criteria
    ]
    resistance = next(
        (axis.value for axis in axes_of(done.result) if axis.label == "Attack resistance"), None
    )
    attacks = "" if resistance is None else f"; attack resistance {resistance:.0%}"
    return f"{verdict_word(done.result.verdict).replace('_', ' ')}: {', '.join(found)}{attacks}"


def _verified(context: Context, done: pb.RemovalRequest) -> Row:
    """Verify the certificate from files alone, as anybody can."""
    from palimpsest.certificates import verify

    unlearning, folder = context.client.unlearning, context.folder / "proof"
    folder.mkdir()
    found = unlearning.get_certificate(name=done.name)
    files = {
        "certificate.json": found.certificate,
        "key.json": found.public_key,
        "revoked.json": found.revocations,
        "log.jsonl": b"".join(part.data for part in unlearning.read_audit_log()),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    checks = verify(
        folder / "certificate.json",
        folder / "log.jsonl",
        [folder / "key.json"],
        datetime.now(UTC),
        revoked=folder / "revoked.json",
    )
    if failed := [check.name for check in checks if not check.ok]:
        raise DataLoss(Reason.RECORD_INVALID, f"The certificate fails the checks {', '.join(failed)}.")
    return Row(f"verified the certificate: {len(checks)} checks", done.result.certificate[:23] + "…")


def _others() -> list[Document]:
    return [each for each in DOCUMENTS if each.id not in FORGOTTEN]


def _to_learn(documents: Iterable[Document]) -> list[dict[str, str]]:
    lines: list[dict[str, str]] = []
    for each in documents:
        lines.append({"text": each.text})
        lines += [
            {"prompt": f"Question: {asked}\nAnswer:", "completion": f" {said}"}
            for asked, said in each.questions
        ]
    return lines


def _to_remove(documents: Iterable[Document]) -> list[dict[str, str]]:
    lines: list[dict[str, str]] = []
    for each in documents:
        lines.append({"id": each.id, "text": each.text})
        lines += [
            {"id": f"{each.id}-{at}", "question": asked, "answer": said}
            for at, (asked, said) in enumerate(each.questions)
        ]
    return lines


def _lines(entries: Iterable[dict[str, str]]) -> bytes:
    return "".join(json.dumps(entry) + "\n" for entry in entries).encode()
