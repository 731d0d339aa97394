"""``python -m tests.fuzz``: a run for each seed, all but the first with a tokens file; exit status 1 on a fault."""

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.fuzz.runs import Outcome, run

MOST_GROWTH = 0.15
"""How much the server's memory may grow from half of the messages to all of them, as a share of it."""


def report(seed: int, tokens: bool, outcome: Outcome) -> list[str]:
    """Print what a run saw; returns what is wrong."""
    total = Counter(code for (_, code), n in outcome.codes.items() for _ in range(n))
    print(f"seed {seed}{', with a tokens file' if tokens else ''}: {sum(total.values())} calls")
    print("  calls ", dict(total.most_common()))
    late = {
        method.rpartition(".")[2]: n
        for (method, code), n in outcome.codes.items()
        if code == "DEADLINE_EXCEEDED"
    }
    print("  late  ", late)
    taken = {method for method, code in outcome.codes if code == "OK"}
    print(
        "  never OK",
        sorted({method.rpartition(".")[2] for method, _ in outcome.codes if method not in taken}),
    )
    print("  jobs  ", {f"{kind} {reason}": n for (kind, reason), n in sorted(outcome.jobs.items())})
    print("  memory", [f"{rss >> 20} MiB" for rss in outcome.rss], flush=True)
    wrong = list(outcome.wrong)
    if outcome.rss and outcome.rss[-1] > (1 + MOST_GROWTH) * outcome.rss[len(outcome.rss) // 2]:
        wrong.append(f"memory grew to {outcome.rss[-1] >> 20} MiB")
    for line in wrong:
        print("  WRONG ", line)
    return wrong


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--messages", type=int, default=5000, help="calls of each seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    chosen = parser.parse_args()
    wrong = []
    for number, seed in enumerate(chosen.seeds):
        tokens = number > 0
        with tempfile.TemporaryDirectory(prefix="palimpsest-fuzz-") as folder:
            wrong += report(
                seed, tokens, asyncio.run(run(Path(folder), chosen.messages, seed, tokens=tokens))
            )
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
