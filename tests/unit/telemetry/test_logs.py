"""Everything a process writes to stderr is one event a line, and JSON where JSON is asked for."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.disks import small_disk

ROOT = Path(__file__).resolve().parents[3]

CONFIGURE = """
import logging, sys, threading, warnings
import structlog
from palimpsest.settings import Settings
from palimpsest.telemetry.logs import configure_logging
configure_logging(Settings())
"""


def run(script: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("PALIMPSEST_")}
    environment = bare | {"PYTHONPATH": os.pathsep.join((f"{ROOT}/shared", str(ROOT)))}
    environment |= {f"PALIMPSEST_{name}": value for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, *(("-c", CONFIGURE + script) if script else ()), *arguments],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def events(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """The lines of stderr, each of which has to be JSON."""
    found = [json.loads(line) for line in done.stderr.splitlines()]
    assert all({"event", "level", "timestamp"} <= set(event) for event in found)
    return found


def test_both_loggers_give_the_same_fields():
    done = run(
        """
structlog.contextvars.bind_contextvars(request_id="r1")
structlog.get_logger("services.x").info("from structlog", count=3)
logging.getLogger("palimpsest.x").info("from %s", "logging", extra={"count": 3})
logging.getLogger("palimpsest.x").debug("too fine")
logging.getLogger("somebody.else").info("not of interest")
logging.getLogger("somebody.else").warning("of interest")
""",
        LOG_JSON="true",
    )
    ours, library, other = events(done)
    assert (ours["event"], ours["logger"]) == ("from structlog", "services.x")
    assert (library["event"], library["logger"]) == ("from logging", "palimpsest.x")
    assert (other["event"], other["level"]) == ("of interest", "warning")
    assert set(ours) == set(library)
    assert {event["request_id"] for event in (ours, library, other)} == {"r1"}
    assert ours["count"] == library["count"] == 3


def test_exceptions_are_json_wherever_they_end():
    done = run(
        """
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("palimpsest.engine").exception("caught")
    structlog.get_logger("services.x").exception("caught")
warnings.warn("old")
thread = threading.Thread(target=lambda: [][1], name="helper")
thread.start()
thread.join()
{}["missing"]
""",
        LOG_JSON="true",
    )
    assert done.returncode == 1
    library, ours, warning, thread, main = events(done)
    for event in (library, ours):
        assert "ZeroDivisionError: division by zero" in event["exception"]
    assert "UserWarning: old" in warning["event"]
    assert "IndexError" in thread["exception"]
    assert "helper" in thread["event"]
    assert (main["event"], main["level"]) == ("uncaught exception", "critical")
    assert "KeyError: 'missing'" in main["exception"]


def test_text_shows_no_local_variables():
    done = run(
        """
def serve():
    prompt = "a secret of the caller's"
    raise RuntimeError("broken")
try:
    serve()
except RuntimeError:
    structlog.get_logger("services.x").exception("failed")
    logging.getLogger("palimpsest.x").exception("failed")
""",
    )
    assert done.stderr.count("RuntimeError: broken") == 2
    assert "a secret" not in done.stderr


def test_the_level_is_that_of_our_own_loggers():
    script = 'logging.getLogger("palimpsest.x").info("i"); structlog.get_logger("services.x").info("i")'
    assert len(events(run(script, LOG_JSON="true"))) == 2
    assert run(script, LOG_JSON="true", LOG_LEVEL="WARNING").stderr == ""


def test_a_server_that_cannot_start_says_so_in_json(tmp_path: Path):
    done = run(
        "", "-m", "services", "registry", LOG_JSON="true", STATE_DIR=str(tmp_path), LISTEN="127.0.0.1:0"
    )
    assert done.returncode == 1
    (event,) = events(done)
    assert event["reason"] == "JOB_STORE_UNAVAILABLE"
    assert "PALIMPSEST_REDIS_URL is not set" in event["error"]


def test_an_engine_that_crashes_says_so_in_json(tiny_model: Path):
    done = run(
        """
from palimpsest.engine import Engine
from palimpsest.lm import load

model = load(sys.argv[1], "cpu", "float32", threads=1, cache_bytes=8 << 20)

def broken(*_args, **_kwargs):
    raise RuntimeError("broken on purpose")

model.forward = broken
engine = Engine(model)
assert engine.submit_score([1, 2, 3]).exception(60).reason == "ENGINE_FAILED"
engine.close()
""",
        str(tiny_model),
        LOG_JSON="true",
        THREADS="1",
    )
    assert done.returncode == 0, done.stderr
    (crash,) = [event for event in events(done) if "exception" in event]
    assert crash["logger"].startswith("palimpsest.engine")
    assert crash["level"] == "error"
    assert "RuntimeError: broken on purpose" in crash["exception"]


def test_lines_that_do_not_fit_on_the_disk_are_dropped_and_counted(tmp_path: Path):
    """The program waits for a line of its input before each batch of its own, and says when it has logged them."""
    script = """
log = structlog.get_logger("services.x")
for batch in sys.stdin:
    for number in range(100):
        log.info("line", batch=batch.strip(), number=number, padding="x" * 50)
    print("logged", flush=True)
log.info("the end")
"""
    with small_disk(tmp_path / "disk", 1) as disk:
        log = disk.root / "log"
        with log.open("ab") as output:
            program = subprocess.Popen(
                [sys.executable, "-c", CONFIGURE + script],
                env=os.environ | {"PYTHONPATH": f"{ROOT}/shared", "PALIMPSEST_LOG_JSON": "true"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
            )
        assert program.stdin
        assert program.stdout
        for batch in ("room", "full", "room again"):
            if batch == "full":
                disk.fill()
            program.stdin.write(f"{batch}\n")
            program.stdin.flush()
            assert program.stdout.readline() == "logged\n"
            if batch == "full":
                disk.empty()
        program.stdin.close()
        assert program.wait(60) == 0
        lines = log.read_text().splitlines()
    torn = [line for line in lines if not line.endswith("}")]
    assert len(torn) <= 1, "at most the line at which the disk became full"
    told = [json.loads(line) for line in lines if line not in torn]
    kept = [event["number"] for event in told if event.get("batch") == "full"]
    (loss,) = [event for event in told if "dropped" in event["event"]]
    assert kept == list(range(len(kept)))
    assert 0 < loss["count"] == 100 - len(kept)
    assert [event["number"] for event in told if event.get("batch") == "room again"] == list(range(100))
    assert told[-1]["event"] == "the end"
