"""JSON from outside goes through ``palimpsest.json_input``; a bare decoder is for what we have written ourselves."""

import ast
import re

from tests.unit.house.imports import modules, tree

TRUSTED = {
    "palimpsest.json_input": "the decoder itself",
    "palimpsest.artifacts.info": "sidecars in the artefact store, written by it",
    "palimpsest.artifacts.upload_session": "open.json of an upload, written by the session",
    "palimpsest.cli.demo.command": "the result of a batch that the demo itself has run",
    "palimpsest.embedded.state": "the state file of a stack, written by it",
    "palimpsest.jobs.attempt": "checkpoints in the job's record",
    "palimpsest.jobs.payload": "messages in the job's record",
    "palimpsest.jobs.record": "the job's record",
    "palimpsest.jobs.runner": "the trace in the job's record",
    "palimpsest.models.fingerprint": "the memo of fingerprints, written beside the models",
    "palimpsest.models.record": "records of models in Redis",
    "palimpsest.training.checkpoints": "manifests of training states, written beside the weights",
    "palimpsest.training.ranks": "what rank 0 of a training tells the others",
    "palimpsest.settings.installation": "a setting, written by the operator",
    "services.codec.contexts": "records of contexts in Redis",
    "services.codec.profiles": "records of profiles in Redis",
    "services.datastore.files": "manifests and checksums, written by the store and checked by CRC",
    "services.datastore.ngrams.catalogue": "records of n-gram stores in Redis",
    "services.datastore.store.documents": "heads of documents in logs and segments, checked by CRC",
    "services.decoding.drafts.tuning": "tuned settings in Redis",
    "services.registry.fine_tuning_ranks": "what a training's job leaves for its other ranks",
    "services.unlearning.requests.records": "records of removal requests in Redis",
    "services.unlearning.workspace": "what an attempt left for the next one, written by it",
}
"""Modules that decode what this installation wrote, and what that is."""

DECODERS = re.compile(
    r"(json|orjson|ujson|simplejson)\.(load|loads|JSONDecoder)"
    r"|json_format\.(Parse|ParseDict)"
    r"|(.+\.)?(model_validate_json|parse_raw|TypeAdapter\(.*\)\.validate_json)"
    r"|JSONDecoder"
)


def decoding(module):
    return sorted(
        {
            ast.unparse(node.func)
            for node in ast.walk(tree(modules()[module]))
            if isinstance(node, ast.Call) and DECODERS.fullmatch(ast.unparse(node.func))
        }
    )


def test_json_is_decoded_bare_only_where_we_have_written_it():
    found = {module: calls for module in modules() if (calls := decoding(module))}
    strangers = {module: calls for module, calls in found.items() if module not in TRUSTED}
    assert not strangers, f"use palimpsest.json_input, or say in TRUSTED who wrote the text: {strangers}"
    assert set(TRUSTED) == set(found), "no longer decodes; strike the entry"


def test_no_name_hides_a_decoder():
    hidden = [
        f"{module}:{node.lineno}"
        for module, path in modules().items()
        for node in ast.walk(tree(path))
        if (
            isinstance(node, ast.ImportFrom)
            and node.module in ("json", "google.protobuf.json_format")
            and any(
                alias.name in ("load", "loads", "JSONDecoder", "Parse", "ParseDict") for alias in node.names
            )
        )
        or (
            isinstance(node, ast.Import)
            and any(alias.name == "json" and alias.asname for alias in node.names)
        )
    ]
    assert not hidden
