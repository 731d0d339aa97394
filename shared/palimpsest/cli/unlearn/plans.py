"""The options that describe a removal, and the plan they make."""

from pathlib import Path
from typing import Annotated, Any

import typer

from palimpsest.cli.names import corpus_name
from palimpsest.cli.output.progress import transfer
from palimpsest.client import Client

Model = Annotated[str, typer.Option("--model", help="The model that knows what is to be forgotten.")]
NewModel = Annotated[str, typer.Option("--new-model", help="Id of the model that is made.")]
Forget = Annotated[
    str,
    typer.Option(
        "--forget",
        metavar="FILE",
        help='What is to be forgotten, one {"id", "text"} or {"id", "question", "answer"} a line; or the digest of an '
        "artefact with such lines.",
    ),
]
Retain = Annotated[str, typer.Option("--retain", metavar="FILE", help="The same of what is to be kept.")]
Holdout = Annotated[
    str, typer.Option("--holdout", metavar="FILE", help="Documents the model was never trained on.")
]
Utility = Annotated[
    str, typer.Option("--utility", metavar="FILE", help="Questions that tell what the model is good for.")
]
References = Annotated[
    list[str] | None, typer.Option("--reference", help="Model trained without the forget set; repeatable.")
]
Algorithm = Annotated[str, typer.Option("--algorithm", help="Such as npo_gdr, ga_klr, simnpo, tv.")]
Start = Annotated[
    str, typer.Option("--start", help="Of retrain the model before the data, of undo the teacher.")
]
Parameters = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A hyper-parameter; repeatable.")
]
Steps = Annotated[
    int,
    typer.Option(
        min=0, show_default=False, help="Optimiser steps. Default: five passes over the forget set."
    ),
]
Rate = Annotated[
    float,
    typer.Option(
        "--learning-rate", "--lr", min=0, max=1, show_default=False,
        help="Default: 1e-5, or 1e-4 with --lora-rank.",
    ),
]  # fmt: skip
Batch = Annotated[
    int, typer.Option(min=0, max=1024, show_default=False, help="Examples of a step. Default: 8.")
]
Seed = Annotated[int, typer.Option(min=0, help="Decides the order of examples.")]
LoraRank = Annotated[
    int,
    typer.Option(
        min=0,
        max=256,
        show_default=False,
        help="Train an adapter of this rank; merged. Default: all weights.",
    ),
]
Stop = Annotated[
    str,
    typer.Option(
        help="forget_match, generation_match, privacy_match, utility_floor or holdout_match: end training then."
    ),
]
Purge = Annotated[
    list[str] | None,
    typer.Option("--purge", metavar="CORPUS:DOCUMENT", help="Delete a document; repeatable."),
]
Ngrams = Annotated[list[str] | None, typer.Option("--ngrams", help="Delete an n-gram store; repeatable.")]
Contexts = Annotated[list[str] | None, typer.Option("--context", help="Delete a context; repeatable.")]
Budget = Annotated[
    float,
    typer.Option("--utility-budget", min=0, help="Points of utility that all removals together may lose."),
]
Search = Annotated[
    list[str] | None,
    typer.Option(
        "--search", metavar="NAME=VALUES",
        help="Choose by trials: learning_rate, retain_weight or beta=0.1,1,10; trials=8. Repeatable.",
    ),
]  # fmt: skip
Attacks = Annotated[
    list[str] | None,
    typer.Option(
        "--attack",
        metavar="NAME",
        help="Such as int4/32, Q4_0, relearn/part, questions/few-shot, prefix/0.5, sampling; repeatable. "
        "None: int8/32, int4/32 and, with --retain, relearn/retain.",
    ),
]
AttackSteps = Annotated[
    int, typer.Option(min=0, help="Optimiser steps of attacks that train. 0: the default.")
]
AttackRate = Annotated[
    float, typer.Option(min=0, max=1, help="Their learning rate. 0: that of the training.")
]
AttackSeed = Annotated[int, typer.Option(min=0, help="Seed of the attacks. 0: that of the training.")]
Unrelated = Annotated[
    str, typer.Option("--unrelated", metavar="FILE", help="What relearn/unrelated trains on; see --forget.")
]
NeverKnew = Annotated[
    str, typer.Option("--never-knew", help="Model whose gains under an attack are what that teaches.")
]
Teacher = Annotated[
    str, typer.Option("--teacher", help="Model before any of the data, which 'bad_teaching' learns from.")
]
Replay = Annotated[
    int,
    typer.Option(
        "--replay", min=0, help="Keep so many sequences that the model says by itself beside --retain."
    ),
]
Coalesce = Annotated[
    bool,
    typer.Option("--coalesce", help="Train in one run with alike requests of yours that wait by then."),
]
DeleteForget = Annotated[
    bool, typer.Option("--delete-forget-set", help="Delete the server's copy of the forget set at the end.")
]


def check(options: dict[str, Any]) -> None:
    """Check what needs no server, before one is started or anything is uploaded.

    Raises
    ------
    typer.BadParameter
        An option is not of the form that its help shows.
    OSError
        A file cannot be read.
    """
    for each in options["parameters"] or ():
        _pair(each, "=", "--set")
    for each in options["purge"] or ():
        _pair(each, ":", "--purge")
    for name in ("forget", "retain", "holdout", "utility"):
        if options[name] and not options[name].startswith("sha256:"):
            Path(options[name]).open("rb").close()


def plan_of(client: Client, options: dict[str, Any]) -> dict[str, Any]:
    """Upload the files that options name, and return the fields of the plan.

    Raises
    ------
    typer.BadParameter
        An option is not of the form that its help shows.
    """
    plan: dict[str, Any] = {
        name: options[name] for name in ("model", "new_model", "algorithm", "start", "teacher")
    }
    plan |= {name: uploaded(client, options[name]) for name in ("forget", "retain", "holdout", "utility")}
    plan["references"] = list(options["reference"] or ())
    plan["parameters"] = dict(_pair(each, "=", "--set") for each in options["parameters"] or ())
    plan["training"] = {
        name: options[name] for name in ("steps", "learning_rate", "batch", "seed", "lora_rank")
    }
    if options["replay"]:
        plan["replay"] = {"keep": options["replay"]}
    if options["search"]:
        plan["search"] = _search(options["search"])
    plan["attacks"] = {
        "names": list(options["attack"] or ()),
        "steps": options["attack_steps"],
        "learning_rate": options["attack_rate"],
        "seed": options["attack_seed"],
        "unrelated": uploaded(client, options["unrelated"]),
        "never_knew": options["never_knew"],
    }
    if options["stop"]:
        plan["stopping"] = {"rule": options["stop"]}
    documents: dict[str, list[str]] = {}
    for each in options["purge"] or ():
        corpus, document = _pair(each, ":", "--purge")
        documents.setdefault(corpus_name(corpus), []).append(document)
    plan["corpora"] = [{"corpus": corpus, "documents": ids} for corpus, ids in documents.items()]
    plan["ngram_stores"] = [_named("ngramStores/", each) for each in options["ngrams"] or ()]
    plan["contexts"] = [_named("contexts/", each) for each in options["context"] or ()]
    plan["coalesce"] = options["coalesce"]
    plan["delete_forget_set"] = options["delete_forget_set"]
    plan["utility_budget"] = options["utility_budget"]
    return plan


def _search(options: list[str]) -> dict[str, Any]:
    """The fields of a search; its candidates are separated by commas."""
    found: dict[str, Any] = {}
    for name, text in (_pair(each, "=", "--search") for each in options):
        try:
            if name == "trials":
                found[name] = int(text)
            elif name in ("learning_rate", "retain_weight", "beta"):
                found[f"{name}s"] = [float(each) for each in text.split(",")]
            else:
                raise ValueError
        except ValueError:
            message = (
                f"{name}={text} is not learning_rate, retain_weight or beta with numbers, or trials with one"
            )
            raise typer.BadParameter(message, param_hint="--search") from None
    return found


def uploaded(client: Client, source: str) -> str:
    """Return the digest of a data set: of the file, which is uploaded, or the one given; empty for none."""
    if not source or source.startswith("sha256:"):
        return source
    with transfer(f"Uploading {source}") as progress:
        return client.artifacts.upload(Path(source), media_type="application/jsonl", progress=progress).digest


def _named(prefix: str, name: str) -> str:
    return name if name.startswith(prefix) else prefix + name


def _pair(text: str, between: str, option: str) -> tuple[str, str]:
    first, found, second = text.partition(between)
    if not found or not first or not second:
        raise typer.BadParameter(f"{text!r} is not NAME{between}VALUE", param_hint=option)
    return first, second
