"""What is printed for programs and for people."""

import json

from google.longrunning import operations_pb2

from palimpsest.api.jobs.v1 import jobs_pb2
from palimpsest.api.models.v1 import models_pb2
from palimpsest.cli.config import described, masked
from palimpsest.cli.output import printing as output


def test_plain_messages():
    model = models_pb2.Model(model_id="m", parameter_count=1 << 40, relation=2, labels={"a": "b"})
    model.create_time.FromJsonString("2026-01-02T03:04:05Z")
    data = output.plain(model)
    assert data["parameter_count"] == 1 << 40
    assert data["relation"] == "RELATION_UNLEARNED"
    assert data["labels"] == {"a": "b"}
    assert data["create_time"] == "2026-01-02T03:04:05Z"
    assert data["parent"] == ""
    assert json.loads(json.dumps(data)) == data


def test_packed_messages_are_unpacked():
    operation = operations_pb2.Operation(name="operations/x", done=True)
    operation.metadata.Pack(jobs_pb2.JobMetadata(kind="k", state=3))
    operation.response.Pack(models_pb2.Model(model_id="m"))
    data = output.plain(operation)
    assert data["metadata"]["state"] == "JOB_STATE_SUCCEEDED"
    assert data["response"]["model_id"] == "m"
    assert "error" not in data
    assert output.state_name(operation) == "succeeded"


def test_packed_messages_of_unknown_types_are_named():
    operation = operations_pb2.Operation()
    operation.response.type_url = "type.googleapis.com/some.newer.Thing"
    assert output.plain(operation)["response"] == {"type": "some.newer.Thing"}


def test_tables_in_pipes_lose_nothing(capsys):
    digest = "sha256:" + "a" * 64
    output.print_table(["digest", ">size", "what"], [(digest, 5, "x" * 100)])
    assert digest in capsys.readouterr().out


def test_sizes():
    assert [output.size(n) for n in (0, 1023, 1024, 5 << 20, 3 << 40)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "5.0 MiB",
        "3.0 TiB",
    ]


def test_settings_name_their_origin(monkeypatch):
    monkeypatch.setenv("PALIMPSEST_THREADS", "3")
    monkeypatch.delenv("PALIMPSEST_LISTEN", raising=False)
    rows = {row["name"]: row for row in described({"PALIMPSEST_THREADS": "3"})}
    assert rows["threads"]["value"] == 3
    assert rows["threads"]["origin"] == "environment"
    assert rows["listen"]["origin"] == "default"
    assert all(row["description"] for row in rows.values())


def test_secrets_are_masked():
    assert masked("redis_url", "redis://user:hunter2@host:6379/0") == "redis://user:***@host:6379/0"
    assert masked("redis_url", "unix:///run/valkey.sock") == "unix:///run/valkey.sock"
    assert masked("artifact_options", {"key": "AKIA", "secret": "s", "endpoint_url": "http://x"}) == {
        "key": "***",
        "secret": "***",
        "endpoint_url": "http://x",
    }
