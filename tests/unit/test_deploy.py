"""The files under deploy/ parse, and name only things that exist."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python.chart import Chart

from palimpsest.rpc.auth import hash_token
from palimpsest.rpc.channel import parse_targets
from palimpsest.settings import ALL_SETTINGS, Settings, variable
from services.__main__ import FRONTS, room_names

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
WORKERS = ("worker-cpu", "worker-gpu")
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "palimpsest.json"
CODE = "\n".join(p.read_text() for base in ("shared", "services") for p in (ROOT / base).rglob("*.py"))


def known_settings() -> set[str]:
    """Every environment variable that some process reads."""
    return {variable(group, field) for group in ALL_SETTINGS for field in group.model_fields}


def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
    files = Chart.load(ROOT / "deploy" / "helm" / "palimpsest").render(values, name="x")
    return [d for text in files.values() for d in yaml.safe_load_all(text) if d]


@pytest.mark.parametrize("values", [{}, {"tls": True, "keda": {"enabled": False}, "artifactUrl": "s3://b/p"}])
def test_the_chart_renders_what_a_cluster_needs(values):
    manifests = rendered(values)
    kinds = {(m["kind"], m["metadata"]["name"]) for m in manifests}
    assert {("Deployment", f"x-{n}") for n in (*room_names(), "worker-cpu", "worker-gpu")} <= kinds
    assert (("ScaledObject", "x-worker-gpu") in kinds) is not bool(values)
    for deployment in (m for m in manifests if m["kind"] == "Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert "livenessProbe" in container
        names = {variable["name"] for variable in container["env"]}
        assert ("PALIMPSEST_INSECURE" in names) is not values.get("tls", False)
        assert names <= known_settings()


def test_workers_scale_on_work_and_not_on_messages():
    scalers = [m for m in rendered({}) if m["kind"] == "ScaledObject"]
    for scaler in scalers:
        (trigger,) = scaler["spec"]["triggers"]
        assert trigger["type"] == "prometheus"
        assert 'state=~"queued|running"' in trigger["metadata"]["query"]


def test_without_containers_the_reason_is_said(tmp_path: Path):
    for tool in ("bash", "dirname"):
        tmp_path.joinpath(tool).symlink_to(shutil.which(tool) or "")
    command = ["bash", str(ROOT / "deploy" / "engine.sh"), "false"]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 75, done
    assert "the docker command is not installed" in done.stderr


def test_alert_rules_are_valid():
    groups = yaml.safe_load(RULES.read_text())["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        assert {"alert", "expr", "labels", "annotations"} <= set(rule)
    promtool = shutil.which("promtool")
    if promtool:  # Prometheus's own opinion, where it is installed
        subprocess.run([promtool, "check", "rules", str(RULES)], check=True, capture_output=True)


def test_rules_and_dashboard_ask_for_metrics_that_exist():
    board = json.loads(DASHBOARD.read_text())
    expressions = [t["expr"] for panel in board["panels"] for t in panel["targets"]]
    expressions += [
        rule["expr"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]
    asked = {
        re.sub(r"_(bucket|count|sum)$", "", name)
        for expression in expressions
        for name in re.findall(r"\bpalimpsest_\w+", expression)
    }
    assert len(asked) > 8
    for name in sorted(asked):
        assert f'"{name.removesuffix("_total")}' in CODE, name


def test_compose_names_every_room_and_only_known_settings():
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    assert {*room_names()} | {"redis", "worker-cpu", "worker-gpu"} <= set(compose["services"])
    for room, service in compose["services"].items():
        assert room in {"prometheus", "grafana"} or service["read_only"] is True
        for name in service.get("environment", {}):
            assert not name.startswith("PALIMPSEST_") or name in known_settings(), name


STATE = "/var/lib/palimpsest"
"""Where the images keep PALIMPSEST_STATE_DIR."""


def test_in_compose_rooms_and_workers_share_one_state_folder():
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    ours = {name: service for name, service in services.items() if name in {*room_names(), *WORKERS}}
    assert set(ours) == {*room_names(), *WORKERS}
    for name, service in ours.items():
        assert f"state:{STATE}" in service["volumes"], name
        assert "PALIMPSEST_STATE_DIR" not in service["environment"], name
    assert f"PALIMPSEST_STATE_DIR={STATE} " in (ROOT / "deploy" / "Dockerfile").read_text()


def test_the_image_builds_from_what_its_context_holds_and_has_everything_that_up_needs():
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    kept = set((ROOT / ".dockerignore").read_text().replace("!", "").split())
    copied = {
        word for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE) for word in line.split()
    }
    assert {"services", "protos", "shared"} <= copied <= kept
    assert "'.[all,s3]'" in text
    assert "palimpsest:cpu palimpsest up" in text


def test_in_the_chart_rooms_and_workers_share_one_state_folder():
    manifests = rendered({})
    claims = [m for m in manifests if m["kind"] == "PersistentVolumeClaim"]
    assert [(m["metadata"]["name"], m["spec"]["accessModes"]) for m in claims] == [
        ("x-state", ["ReadWriteMany"])
    ]
    pods = {
        m["metadata"]["name"]: m["spec"]["template"]["spec"] for m in manifests if m["kind"] == "Deployment"
    }
    fronts = {f"x-{name}" for name in FRONTS}
    assert set(pods) == {f"x-{name}" for name in (*room_names(), *WORKERS)} | fronts
    for front in fronts:  # they keep nothing, and know neither Redis nor the tokens
        pod = pods.pop(front)
        assert "persistentVolumeClaim" not in str(pod)
        assert "redis_url" not in str(pod)
    for name, pod in pods.items():
        volumes = {each["name"]: each for each in pod["volumes"]}
        (container,) = pod["containers"]
        mounted = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
        assert volumes[mounted[STATE]]["persistentVolumeClaim"]["claimName"] == "x-state", name
        assert "PALIMPSEST_STATE_DIR" not in {each["name"] for each in container["env"]}, name


def test_what_the_suite_adds_to_compose_reaches_every_room_and_worker():
    added = yaml.safe_load((ROOT / "tests" / "compose" / "override.yaml").read_text())["services"]
    assert set(added) == {*room_names(), *WORKERS}
    for name, service in added.items():
        assert service["volumes"] == ["${PALIMPSEST_TEST_FILES}:${PALIMPSEST_TEST_FILES}:ro"], name


def environments(manifests: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Environment of each Deployment's container by the Deployment's name."""
    found = {}
    for manifest in (m for m in manifests if m["kind"] == "Deployment"):
        (container,) = manifest["spec"]["template"]["spec"]["containers"]
        found[manifest["metadata"]["name"]] = {v["name"]: v.get("value") for v in container["env"]}
    return found


def test_in_compose_the_gpu_worker_owns_the_jobs_that_need_a_model_and_the_cpu_worker_stands_by(monkeypatch):
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    monkeypatch.delenv("PALIMPSEST_JOB_QUEUES", raising=False)
    workers = {}
    for name in ("worker-cpu", "worker-gpu"):
        environment = services[name]["environment"]
        queues = {
            field: environment.get(f"PALIMPSEST_{field.upper()}", "")
            for field in ("worker_queues", "worker_standby_queues")
        }
        workers[name] = Settings(**{k: re.sub(r"^\$\{\w+-(.*)\}$", r"\1", v) for k, v in queues.items()})
    for needs in ("model", "train"):
        queue = Settings().queue_for(needs)
        assert queue in workers["worker-gpu"].own_queues
        assert queue in workers["worker-cpu"].standby_queues
        assert queue not in workers["worker-cpu"].own_queues
    assert workers["worker-cpu"].own_queues == (Settings().queue_for("cpu"),)
    assert services["worker-gpu"]["build"]["args"]["VARIANT"] == "cuda"


def test_in_the_chart_each_queue_has_a_worker_that_scales_by_it():
    manifests = rendered({})
    served = {
        queue
        for e in environments(manifests).values()
        for queue in (e.get("PALIMPSEST_WORKER_QUEUES") or "").split(",")
    }
    assert set(Settings().queues) <= served
    queries = {
        m["metadata"]["name"]: m["spec"]["triggers"][0]["metadata"]["query"]
        for m in manifests
        if m["kind"] == "ScaledObject"
    }
    assert 'queue=~"gpu"' in queries["x-worker-gpu"]
    assert 'queue=~"cpu"' in queries["x-worker-cpu"]
    both = rendered({"workers": {"cpu": {"queues": "cpu,gpu"}, "gpu": None}})
    assert ("Deployment", "x-worker-gpu") not in {(m["kind"], m["metadata"]["name"]) for m in both}
    (scaler,) = (m for m in both if m["kind"] == "ScaledObject")
    assert 'queue=~"cpu|gpu"' in scaler["spec"]["triggers"][0]["metadata"]["query"]


def test_in_the_chart_workers_alone_hold_the_service_token_and_all_know_every_room():
    for name, environment in environments(rendered({})).items():
        assert ("PALIMPSEST_SERVICE_TOKEN" in environment) == name.startswith("x-worker-")
        peers = parse_targets(environment["PALIMPSEST_PEERS"])
        assert peers == {
            "": "x-registry:7600",
            **{
                room: f"x-{room}:7600"
                for room in ("codec", "datastore", "decoding", "grafting", "unlearning")
            },
        }


def test_secrets_made_before_there_was_a_service_token_get_one(tmp_path: Path):
    def made() -> dict[str, list[str]]:
        command = ["bash", str(ROOT / "deploy" / "secrets.sh")]
        environment = {**os.environ, "PALIMPSEST_SECRETS": str(tmp_path)}
        subprocess.run(command, env=environment, check=True, capture_output=True)
        return {t["name"]: t["scopes"] for t in json.loads((tmp_path / "tokens.json").read_text())["tokens"]}

    (tmp_path / "tokens.json").write_text('{"tokens": [{"name": "ann", "sha256": "x", "scopes": ["*"]}]}\n')
    assert made() == {"ann": ["*"], "jobs": ["impersonate"]}
    assert made() == {"ann": ["*"], "jobs": ["impersonate"]}
    tokens = json.loads((tmp_path / "tokens.json").read_text())["tokens"]
    digest = next(t["sha256"] for t in tokens if t["name"] == "jobs")
    assert digest == hash_token((tmp_path / "service_token").read_text())
