"""``palimpsest up``, ``down`` and ``health``: the stack of this machine, and any server's pulse."""

import contextlib
import signal
import threading
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live
from rich.table import Table

from palimpsest.cli.output import printing as output
from palimpsest.cli.output.exits import table
from palimpsest.cli.session import Session, command, guarded
from palimpsest.embedded.local import ensure_running, stop_running
from palimpsest.embedded.stack import Stack
from palimpsest.embedded.state import running
from palimpsest.errors import PalimpsestError, Reason, Unavailable
from palimpsest.settings import Settings

Listen = Annotated[
    str, typer.Option("--listen", metavar="HOST:PORT", help="Address to listen on; must be free.")
]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Run in the background; return once ready.")]
StateDir = Annotated[
    Path | None, typer.Option("--state-dir", envvar="PALIMPSEST_STATE_DIR", help="Where everything is kept.")
]


def _settings(state_dir: Path | None) -> Settings:
    return Settings() if state_dir is None else Settings(state_dir=state_dir)


def up(listen: Listen = "", detach: Detach = False, state_dir: StateDir = None) -> None:
    """Run Palimpsest on this machine: an embedded Valkey, a server with every room, a worker, the HTTP gateway.

    In the foreground until Ctrl-C, or in the background with --detach.
    """
    guarded(_detached if detach else _foreground)(_settings(state_dir), listen or None)


def _detached(settings: Settings, listen: str | None) -> None:
    target = ensure_running(settings, listen=listen)
    state = running(settings.state_dir)
    typer.echo(_serves(target, state.gateway if state else "", str(settings.state_dir / "logs")))


def _serves(target: str, gateway: str, logs: str) -> str:
    http = f" and OpenAI's HTTP at {gateway}/v1" if gateway else ""
    return f"Palimpsest serves {target}{http}; logs in {logs}."


def _foreground(settings: Settings, listen: str | None) -> None:
    ended = threading.Event()
    for sig in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sig, lambda *_: ended.set())
    stack = Stack(settings, listen=listen, owner="launcher")
    console = output.console()
    starting = threading.Thread(target=_start, args=(stack,), daemon=True)
    starting.start()
    if console.is_terminal:
        with Live(_status(stack), console=console, refresh_per_second=4) as live:
            while not ended.wait(0.25) and stack.failure is None:
                live.update(_status(stack))
    else:
        while starting.is_alive() and not ended.wait(0.1):
            pass
        if stack.ready:
            console.print(_serves(stack.target, stack.gateway, str(stack.logs)), soft_wrap=True)
        while stack.failure is None and not ended.wait(0.5):
            pass
    if stack.failure is not None:
        starting.join()
        stack.stop()
        raise stack.failure
    output.note("Stopping: the worker hands back its job, the server drains, Valkey saves.")
    stack.stop()


def _start(stack: Stack) -> None:
    # The stack keeps what went wrong; the thread that shows its status asks for it.
    with contextlib.suppress(PalimpsestError):
        stack.start()


def _status(stack: Stack) -> Table:
    state = "ready" if stack.ready else "starting"
    http = f", {stack.gateway}/v1" if stack.gateway else ""
    shown = Table(title=f"Palimpsest {stack.target}{http} {state}; Ctrl-C stops it", title_justify="left")
    for column in ("process", "pid", "restarts", "log"):
        shown.add_column(column, overflow="fold")
    for child in stack.status():
        shown.add_row(child.name, str(child.pid or "-"), str(child.restarts), child.log)
    return shown


def down(state_dir: StateDir = None) -> None:
    """Stop the stack of this machine: the worker hands back its job, the server drains, Valkey saves."""
    settings = _settings(state_dir)
    state = guarded(stop_running)(settings)
    typer.echo(f"Stopped {state.target}." if state else f"No stack runs on {settings.state_dir}.")


def health(session: Session) -> None:
    """Check the server's health. Exits with 4 if it is not serving; never starts one."""
    from palimpsest.rpc.channel import Tls, parse_targets
    from palimpsest.rpc.health import check

    target, settings = session.server, Settings()
    if not target:
        state = running(settings.state_dir)
        if state is None:
            raise Unavailable(
                Reason.SERVER_UNREACHABLE,
                f"No stack runs on {settings.state_dir}; start one with `palimpsest up`.",
            )
        target = state.target
    began = time.perf_counter()
    for where in parse_targets(target).values():
        check(where, timeout=5.0, token=session.token or None, tls=Tls() if session.tls else None)
    seconds = time.perf_counter() - began
    if session.json:
        output.print_json({"target": target, "serving": True, "seconds": round(seconds, 4)})
    else:
        typer.echo(f"{target} serves (answered in {seconds * 1000:.0f} ms).")


def add(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(epilog=table())(up)
    app.command(epilog=table())(down)
    command(app)(health)
