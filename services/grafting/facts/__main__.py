"""``python -m services.grafting.facts --seed 1 --count 16 --out FOLDER``: write a set of invented facts.

``--counterfact FILE --out cases.jsonl`` imports CounterFact's JSON instead.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from palimpsest.disk import replace_file
from palimpsest.errors import PalimpsestError
from services.grafting.facts.building import DIRECTIONS, build_facts
from services.grafting.facts.counterfact import counterfact_cases
from services.grafting.facts.files import encode_rows, write_facts


def main(arguments: Sequence[str] | None = None) -> int:
    """Write what is asked for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m services.grafting.facts", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=16, help="facts")
    parser.add_argument("--direction", choices=(*DIRECTIONS, "both"), default="both")
    parser.add_argument("--counterfact", type=Path, metavar="FILE", help="import this file")
    parser.add_argument("--out", type=Path, required=True, help="a folder; of an import a file")
    asked = parser.parse_args(arguments)
    try:
        if asked.counterfact is not None:
            cases = counterfact_cases(asked.counterfact.read_bytes(), asked.counterfact.name)
            replace_file(asked.out, encode_rows(cases))
            sys.stdout.write(f"{len(cases)} cases in {asked.out}\n")
            return 0
        directions = DIRECTIONS if asked.direction == "both" else (asked.direction,)
        facts = build_facts(asked.seed, asked.count, directions)
        write_facts(facts, asked.out)
    except (PalimpsestError, OSError) as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1
    told = f"{len(facts.facts)} facts, {len(facts.texts)} texts and {len(facts.cases)} cases"
    sys.stdout.write(f"{told} in {asked.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
