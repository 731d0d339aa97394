"""Where facts that a model was fine-tuned on live: the paper's claims on a small model, over facts and seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.grafting import engine, positions, readings, runs
from services.grafting.facts import Interval, difference_of, mean_of, ratio_of
from services.grafting.facts.templates import FORMS
from tests.benchmarks.figures import Figures
from tests.benchmarks.grafting_study import measuring
from tests.benchmarks.grafting_study.lab import FACTS, Lab, sources
from tests.benchmarks.grafting_study.measuring import PREFIX, Measurer, Row

BARE = tuple(FORMS)
PREFIXED = ("alongside", "title")
"""Forms that begin with the entity, which are asked behind a neutral prefix too."""
VARIANTS = (*BARE, *(f"{form}, prefixed" for form in PREFIXED))
NULL_FORM = "alongside"
"""The form that nulls are asked in."""
AT_REST = "FE+LT"
"""The graft that nulls are compared with."""
_DECIDING = (engine, positions, readings, runs, measuring)

Found = dict[str, dict[str, Row]]
"""One seed's: by variant or null, then by fact."""


def found_of(lab: Lab, seed: int) -> Found:
    """All readings of a seed's facts with the model that was fine-tuned on them as the donor."""
    tuned = lab.tuned(seed)

    def make() -> Found:
        facts = lab.set_of(seed)
        own = Measurer(lab.base, lab.load(tuned), lab.tokenizer)
        found: Found = {}
        for variant in VARIANTS:
            form, _, prefixed = variant.partition(", ")
            found[variant] = {
                case.fact: own.measure(own.ask(case, PREFIX if prefixed else ""))
                for case in facts.cases
                if case.form == form
            }
        cases = [case for case in facts.cases if case.form == NULL_FORM]
        answers = [own.ask(case).case.target[0] for case in cases]
        found["shuffled facts"] = {
            case.fact: own.measure(own.ask(case), (AT_REST,), answer)
            for case, answer in zip(cases, [*answers[1:], answers[0]], strict=True)
        }
        found["strangers"] = {
            case.fact: own.measure(own.ask(case), (AT_REST,))
            for case in facts.neighbours
            if case.form == NULL_FORM
        }
        return found

    parts = [tuned.name, lab.base_folder.name, sources(*_DECIDING)]
    return lab.kept_result(f"readings-{seed}", parts, make)


def null_of(lab: Lab, seed: int, other: int) -> Found:
    """Readings of a seed's facts with a donor that was fine-tuned on another seed's.

    Sets share given names, which begin the answers: a donor that was taught such a name gives it for any fact. So the
    null has the facts whose answers begin with no name of the donor's, and the others are told beside it.
    """
    stranger = lab.tuned(other)
    names = {n.split()[0] for fact in lab.set_of(other).facts for n in (fact.first, fact.second, fact.role)}
    taught = {lab.tokenizer(f" {name}").input_ids[0] for name in names}

    def make() -> Found:
        null = Measurer(lab.base, lab.load(stranger), lab.tokenizer)
        found: Found = {"other donor": {}, "other donor, names it was taught": {}}
        for case in lab.set_of(seed).cases:
            if case.form == NULL_FORM:
                asked = null.ask(case)
                known = asked.case.target[0] in taught
                kind = "other donor, names it was taught" if known else "other donor"
                found[kind][case.fact] = null.measure(asked, (AT_REST,))
        return found

    parts = [seed, FACTS, sorted(taught), stranger.name, lab.base_folder.name, sources(*_DECIDING)]
    return lab.kept_result(f"null-{seed}", parts, make)


@dataclass(frozen=True)
class Table:
    """Readings of all seeds, a row for each fact."""

    found: Mapping[int, Found]

    def facts(self, variant: str, name: str, what: str) -> npt.NDArray[np.float64]:
        """One reading by fact, seeds one after another."""
        return np.concatenate([self.seed(seed, variant, name, what) for seed in self.found])

    def seed(self, seed: int, variant: str, name: str, what: str) -> npt.NDArray[np.float64]:
        """One reading of a seed's facts."""
        return np.array([row[name][what] for row in self.found[seed][variant].values()])

    def pooled(self, name: str, what: str, variants: Sequence[str] = BARE) -> npt.NDArray[np.float64]:
        """Mean over variants, by fact."""
        return np.mean([self.facts(variant, name, what) for variant in variants], axis=0)

    def by_seed(self, name: str, what: str, variants: Sequence[str] = BARE) -> list[float]:
        """Mean over variants and facts, by seed."""
        return [
            float(np.mean([self.seed(seed, variant, name, what) for variant in variants]))
            for seed in self.found
        ]


def study(lab: Lab, figures: Figures, seeds: Sequence[int]) -> None:
    """Train, graft and judge."""
    found: dict[int, Found] = {}
    for at, seed in enumerate(seeds):
        found[seed] = found_of(lab, seed)
        if len(seeds) > 1:
            found[seed] |= null_of(lab, seed, seeds[(at + 1) % len(seeds)])
        print(f"seed {seed}: measured", flush=True)
    table = Table(found)
    for seed, spent in lab.spent.items():
        figures.figure(f"seed {seed}: CPU seconds of training", spent)
    for variant in VARIANTS:
        for name in next(iter(found[seeds[0]][variant].values())):
            figures.figure(f"{variant}: {name}", _line(table, variant, name))
    sufficient(table, figures)
    nulls(table, figures)
    located(table, figures)


def _line(table: Table, variant: str, name: str) -> str:
    rank = table.facts(variant, name, "rank")
    probability = mean_of(table.facts(variant, name, "probability"))
    return (
        f"top-1 {np.mean(rank <= 1):.2f}, top-5 {np.mean(rank <= 5):.2f}, top-50 {np.mean(rank <= 50):.2f}, "
        f"mean rank {rank.mean():.0f}, mean probability {probability}"
    )


def sufficient(table: Table, figures: Figures) -> None:
    """Entity and last token together are the fine-tuned model; all other tokens together are the base."""
    for what, name, least in (("fine-tuned", "donor", 0.95), (f"{AT_REST} grafted", AT_REST, 0.9)):
        figures.gate(f"{what}: top-1, all forms and seeds", f">= {least}", table.pooled(name, "top").mean())
        worst = min(VARIANTS, key=lambda variant: table.facts(variant, name, "top").mean())
        figures.gate(
            f"{what}: top-1, worst form ({worst})", f">= {least}", table.facts(worst, name, "top").mean()
        )
        figures.figure(f"{what}: top-1, by seed", _numbers(table.by_seed(name, "top")))
        figures.figure(f"{what}: top-1, interval over facts", str(mean_of(table.pooled(name, "top"))))
    for variants, told in ((BARE, "all forms"), (VARIANTS[len(BARE) :], "prefixed forms")):
        complement, base = (
            table.pooled(name, "probability", variants) for name in (f"({AT_REST})^C", "base")
        )
        figures.gate(
            f"complement: mean probability over the base's, {told}", "<= 3", complement.mean() / base.mean()
        )
        figures.figure(f"complement over base, {told}: interval over facts", str(ratio_of(complement, base)))
    rises = [(table.pooled(name, "rank") <= 5).mean() for name in (f"({AT_REST})^C", "base")]
    figures.gate("complement: top-5, more than the base's by", "<= 0.05", rises[0] - rises[1])


def nulls(table: Table, figures: Figures) -> None:
    """What should not bring an answer out does not.

    A name that was in no text is still followed by one of the set's answers, which the donor has learned to expect in
    such a sentence: what is asked of strangers is no more than chance among them.
    """
    for name in ("other donor", "shuffled facts"):
        if any(name not in each for each in table.found.values()):
            continue  # with one seed there is no donor that knows other facts
        grafted, base = (table.facts(name, of, "probability") for of in (AT_REST, "base"))
        figures.gate(f"{name}: mean probability over the base's", "<= 3", grafted.mean() / base.mean())
        figures.figure(f"{name}: over the base's, interval over facts", str(ratio_of(grafted, base)))
    taught = "other donor, names it was taught"
    if all(each.get(taught) for each in table.found.values()):
        grafted, base = (table.facts(taught, of, "probability") for of in (AT_REST, "base"))
        figures.figure(f"{taught}: over the base's, interval over facts", str(ratio_of(grafted, base)))
    strangers, base = (table.facts("strangers", of, "probability") for of in (AT_REST, "base"))
    figures.gate(
        "strangers: mean probability over chance among the set's answers", "<= 1", strangers.mean() * FACTS
    )
    figures.figure("strangers: over the base's, interval over facts", str(ratio_of(strangers, base)))
    random = [table.pooled(f"random {number}", "probability") for number in range(measuring.RANDOM_SETS)]
    chosen, drawn = table.pooled(AT_REST, "probability"), np.mean(random, axis=0)
    figures.gate(
        "random positions, as many: mean probability, share of entity and last token's",
        "<= 0.5",
        drawn.mean() / chosen.mean(),
    )
    figures.figure("random positions: mean probability", str(mean_of(drawn)))


def located(table: Table, figures: Figures) -> None:
    """The upper half of the layers at the last token, and there O and FFN."""
    for variants, told in ((BARE, "all forms"), (VARIANTS[len(BARE) :], "prefixed forms")):
        low, high = (table.pooled(f"LT {half}", "rank", variants) for half in ("lower", "upper"))
        figures.gate(f"LT: mean rank by lower layers over upper, {told}", ">= 5", low.mean() / high.mean())
        figures.figure(f"LT: lower over upper, {told}: interval over facts", str(ratio_of(low, high)))
        seeds = np.array(table.by_seed("LT lower", "rank", variants)) / table.by_seed(
            "LT upper", "rank", variants
        )
        figures.figure(f"LT: lower over upper, {told}: by seed", _numbers(seeds))
        if len(seeds) > 1:
            figures.figure(f"LT: lower over upper, {told}: interval over seeds", str(mean_of(seeds)))
        for where in ("LT upper", "FE and LT upper"):
            for better, worse in (("O+FFN", "FFN"), ("FFN", "O")):
                _ordered(table, figures, where, better, worse, variants, told)


def _ordered(
    table: Table, figures: Figures, where: str, better: str, worse: str, variants: Sequence[str], told: str
) -> None:
    pairs = [f"{where} {name}" for name in (better, worse)]
    up, down = (table.pooled(name, "logprob", variants) for name in pairs)
    over: Interval = difference_of(up, down)
    name = f"{where}: log-probability by {better} more than by {worse}, {told}"
    figures.gate(f"{name}: lower end of the interval", "> 0", over.low)
    ups, downs = (np.array(table.by_seed(each, "logprob", variants)) for each in pairs)
    figures.figure(f"{name}: interval over facts; by seed", f"{over}; {_numbers(ups - downs)}")


def _numbers(values: Sequence[float] | npt.NDArray[np.float64]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)
