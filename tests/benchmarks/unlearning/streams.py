"""Fifty requests one after another, each by an adapter that stops by itself, and one request that grows.

Every request removes what the one before has left. The reference of all of them is one model that was retrained without
any of their sets: of the set of a request it knows as much as one retrained without that set alone. Every few requests
all earlier sets are measured again. A set is two documents and six questions, of which one is worth 17 points: what may
not rise is the mean over a cohort, the sets of the requests between two such looks.
"""

from collections.abc import Iterable, Sequence
from statistics import mean

from services.unlearning.corpora import Sizes
from tests.benchmarks.figures import ROOT, Figures
from tests.benchmarks.unlearning.curves import Line, Panel, page
from tests.benchmarks.unlearning.lab import Lab
from tests.benchmarks.unlearning.sequences import COHORT, Requests, line_of

SIZES = Sizes(forget=100, folds=50)
MOST_RISE, MOST_TIME = 10, 1.3
ENDS = 10
"""Requests at the beginning and at the end of a stream whose times are compared."""


def slowed(seconds: Sequence[float], ends: int = ENDS) -> float:
    """Mean time of the last requests over that of the first."""
    return mean(seconds[-ends:]) / mean(seconds[:ends])


def beyond_linear(amounts: Sequence[float], seconds: Sequence[float]) -> float:
    """Largest time of any amount over what the first one's time for each unit gives."""
    unit = seconds[0] / amounts[0]
    return max(spent / (unit * amount) for amount, spent in zip(amounts, seconds, strict=True))


def streams(labs: Sequence[Lab], figures: Figures) -> None:
    """Gates on requests that follow one another, on one target of their own, and on requests that grow."""
    panels = [*_followed(Requests(Lab(labs[0].seed, sizes=SIZES)), figures), *_grew(labs, figures)]
    path = ROOT / ".bench" / "unlearning-streams.html"
    page(path, "Requests that follow one another, and one that grows", panels)
    figures.figure("curves", str(path.relative_to(ROOT)))


def _followed(requests: Requests, figures: Figures) -> list[Panel]:
    stream = requests.stream()
    count = len(stream.requests)
    at = list(range(1, count + 1))
    seconds = [each.seconds for each in stream.requests]
    utility = [each.utility for each in stream.requests]
    for what, name in (("verbmem", "VerbMem"), ("knowmem", "KnowMem")):
        every = stream.rises(what)
        worst = max(value for look in stream.cohorts(what) for value in look)
        figures.gate(
            f"{count} requests: rise of {name} of earlier sets, worst cohort", f"<= {MOST_RISE}", worst
        )
        figures.figure(
            f"{count} requests: {name}: mean rise at each look", _row(mean(look) for look in every)
        )
        figures.figure(f"{count} requests: {name}: largest rise of one set", max(map(max, every)))
        own = [getattr(each, what) for each in stream.requests]
        figures.figure(f"{count} requests: {name} of a set after its request, mean", mean(own))
    figures.gate(
        f"{count} requests: CPU time of the last ten over the first ten", f"<= {MOST_TIME}", slowed(seconds)
    )
    total = sum(seconds) / (count * mean(seconds[:ENDS]))
    figures.gate(f"{count} requests: CPU time of all, of linear", f"<= {MOST_TIME}", total)
    figures.figure(f"{count} requests: utility by request", _row(utility))
    figures.figure(f"{count} requests: CPU seconds by request", _row(seconds))
    figures.figure(f"{count} requests: steps by request", _row(each.steps for each in stream.requests))
    looks = [COHORT * (number + 1) for number in range(len(stream.looks))]
    rises = [
        Line(f"{name}, {kind}", looks, [pick(look) for look in stream.cohorts(what)])
        for what, name in (("verbmem", "VerbMem"), ("knowmem", "KnowMem"))
        for kind, pick in (("mean", mean), ("worst cohort", max))
    ]
    return [
        Panel("utility", "requests", "KnowMem of retain2, %", [Line("utility", at, utility)]),
        Panel("earlier sets", "requests", "rise since its own request, points", rises),
        Panel("time", "requests", "CPU seconds of a request", [Line("time", at, seconds)]),
    ]


def _grew(labs: Sequence[Lab], figures: Figures) -> list[Panel]:
    grown = {lab.seed: Requests(lab).growing() for lab in labs}
    ratios, utility, times = [], [], []
    for seed, rows in grown.items():
        amounts = [each["documents"] for each in rows]
        seconds = [each["seconds"] for each in rows]
        ratios.append(beyond_linear(amounts, seconds))
        utility.append(Line(f"seed {seed}", amounts, [each["utility"] for each in rows]))
        times.append(Line(f"seed {seed}", amounts, seconds))
        for row in rows:
            figures.figure(f"seed {seed}: {row['documents']} documents in one request", line_of(row))
    figures.gate("1x to 4x in one request: CPU time, of linear", f"<= {MOST_TIME}", max(ratios))
    return [
        Panel("utility by size", "documents", "KnowMem of retain2, %", utility),
        Panel("time by size", "documents", "CPU seconds", times),
    ]


def _row(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values)
