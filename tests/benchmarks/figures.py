"""What benchmarks leave: a table on the screen, and ``.bench/<name>.json`` with gates, figures and the machine."""

import json
import operator
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]

_RELATIONS = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}


class Figures:
    """Collects one benchmark's gates and figures."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.gates: list[dict[str, object]] = []
        self.figures: dict[str, object] = {}

    def gate(self, name: str, asked: str, got: float) -> None:
        """Add a gate, such as ``asked=">= 1.3"``; whether it holds is computed."""
        match = re.fullmatch(r"(>=|<=|==|>|<)\s*([0-9.]+)", asked)
        assert match, asked
        holds = bool(_RELATIONS[match[1]](got, float(match[2])))
        self.gates.append({"name": name, "asked": asked, "got": round(float(got), 4), "holds": holds})

    def figure(self, name: str, value: object) -> None:
        """Add a figure for the reader; it gates nothing."""
        self.figures[name] = round(value, 4) if isinstance(value, float) else value

    def write(self) -> Path:
        """Print the tables and write the file."""
        console = Console()
        table = Table("gate", "asked", "got", "holds", title=self.name)
        for gate in self.gates:
            table.add_row(
                str(gate["name"]), str(gate["asked"]), str(gate["got"]), "yes" if gate["holds"] else "NO"
            )
        console.print(table)
        table = Table("figure", "value")
        for name, value in self.figures.items():
            table.add_row(name, str(value))
        console.print(table)
        path = ROOT / ".bench" / f"{self.name}.json"
        path.parent.mkdir(exist_ok=True)
        body = {"gates": self.gates, "figures": self.figures, "machine": machine()}
        path.write_text(json.dumps(body, indent=2) + "\n")
        console.print(f"written to {path.relative_to(ROOT)}")
        return path


def machine() -> dict[str, object]:
    """What the figures were taken on."""
    info: dict[str, object] = {
        "processor": platform.processor() or platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
    }
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        text = cpuinfo.read_text()
        name = re.search(r"model name\s*:\s*(.*)", text)
        found = re.search(r"(?:flags|Features)\s*:\s*(.*)", text)
        flags = set(found[1].split()) if found else set()
        wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
        info |= {"processor": name[1] if name else "", "flags": [f for f in wanted if f in flags]}
    return info


def interleaved(actions: Mapping[str, Callable[[], float | None]], rounds: int) -> dict[str, float]:
    """Run all actions in turn, ``rounds`` times after one warm-up; median of each.

    An action returns its own measure, or None to be timed.
    """
    measured: dict[str, list[float]] = {name: [] for name in actions}
    for n in range(rounds + 1):
        for name, action in actions.items():
            start = time.perf_counter()
            own = action()
            if n:
                measured[name].append(time.perf_counter() - start if own is None else own)
    return {name: statistics.median(values) for name, values in measured.items()}


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which a share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
