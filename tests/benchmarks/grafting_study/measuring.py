"""Grafts of the study: which positions, layers and components, and what each says of every fact's answer.

The answer is the first token of the second person's name, as in the paper. Position sets take everything of a token,
embedding, last norm and head included, so that all positions together are the fine-tuned model and none the base's.
Windows of layers take the layers alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from services.grafting.asking import AskedCase, AskedPatch, configuration_of, read_case
from services.grafting.engine import Configuration, Grafter
from services.grafting.facts import Case as FactCase
from services.grafting.pairs import Facts
from services.grafting.positions import Prompt, Selection, Span, positions_of
from services.grafting.readings import Reading
from services.grafting.runs import Case, PromptRun, batches
from tests.benchmarks.grafting_study.lab import facts_of, grafter_of

RANDOM_SETS = 3
"""Random sets of positions for each case."""
PREFIX = "Here is a note about a film. "
"""Before a prompt, so that its entity is not at the first position, where attention gathers."""

Row = dict[str, dict[str, float]]
"""What one case says: by configuration, ``probability``, ``logprob``, ``rank`` and ``top`` (1 if it comes first)."""


def told(reading: Reading, target: int) -> dict[str, float]:
    """The readings that are kept."""
    return {
        "probability": reading.probability,
        "logprob": reading.logprob,
        "rank": reading.rank,
        "top": float(reading.top == target),
    }


@dataclass(frozen=True)
class Asked:
    """One case as it is read: its prompt, what is run, and the positions that it names."""

    prompt: Prompt
    case: Case
    named: dict[str, tuple[int, ...]]


class Measurer:
    """Runs the study's grafts between two models.

    Parameters
    ----------
    base, donor
        transformers' modules.
    tokenizer
        Of both.
    """

    def __init__(self, base: Any, donor: Any, tokenizer: Any) -> None:
        self._grafter: Grafter = grafter_of(base, donor)
        self._facts: Facts = facts_of(base)
        self._tokenizer = tokenizer

    def ask(self, case: FactCase, prefix: str = "") -> Asked:
        """Read a case; spans move by the prefix."""
        text = prefix + case.prompt
        prompt, whole = read_case(AskedCase(text, case.target), self._tokenizer, self._facts)
        named = {
            name: positions_of(
                Selection(
                    tuple(
                        Span(first=span.first + len(prefix), stop=span.stop + len(prefix))
                        for span in place.spans
                    ),
                    place.indices,
                ),
                prompt,
            )
            for name, place in case.places.items()
        }
        return Asked(prompt, Case(whole.prompt, whole.target[:1]), named)

    def sets(self, asked: Asked) -> dict[str, AskedPatch | tuple[AskedPatch, ...]]:
        """The study's configurations, by name."""
        middle, everywhere = self._facts.layers // 2, ("all",)
        entity, last = asked.named["first_entity"], asked.named["last_token"]
        both = tuple(sorted({*entity, *last}))
        found: dict[str, AskedPatch | tuple[AskedPatch, ...]] = {}
        for name, at in (("FE", entity), ("LT", last), ("FE+LT", both)):
            found[name] = AskedPatch(Selection(indices=at), components=everywhere)
            found[f"({name})^C"] = AskedPatch(Selection(indices=at, complement=True), components=everywhere)
        found["FE+LT, layers only"] = AskedPatch(Selection(indices=both))
        whole_entity, at_last = AskedPatch(Selection(indices=entity)), Selection(indices=last)
        for half, first, stop in (("lower", 0, middle), ("upper", middle, 0)):
            found[f"LT {half}"] = AskedPatch(at_last, first, stop)
            found[f"FE {half}"] = AskedPatch(Selection(indices=entity), first, stop)
            found[f"FE and LT {half}"] = (whole_entity, AskedPatch(at_last, first, stop))
        for name, parts in (
            ("O+FFN", ("o", "ffn")), ("FFN", ("ffn",)), ("O", ("o",)), ("QKV", ("attention",)),
        ):  # fmt: skip
            upper = AskedPatch(at_last, middle, 0, parts)
            found[f"LT upper {name}"] = upper
            found[f"FE and LT upper {name}"] = (whole_entity, upper)
        if "title" in asked.named:
            title = asked.named["title"]
            found["M"] = AskedPatch(Selection(indices=title), components=everywhere)
            found["M+LT"] = AskedPatch(Selection(indices=(*title, *last)), components=everywhere)
        draw = Random(asked.prompt.text)
        for number in range(RANDOM_SETS):
            at = draw.sample(range(len(asked.prompt.ids)), len(both))
            found[f"random {number}"] = AskedPatch(Selection(indices=tuple(at)), components=everywhere)
        return found

    def measure(self, asked: Asked, names: Sequence[str] = (), target: int | None = None) -> Row:
        """Run a case's configurations, all or some; with another answer where ``target`` is given."""
        case = asked.case if target is None else Case(asked.case.prompt, (target,))
        sets = {name: each for name, each in self.sets(asked).items() if not names or name in names}
        made = {name: self._configuration(each, asked.prompt) for name, each in sets.items()}
        return self._run(case, made)

    def _configuration(self, patches: AskedPatch | tuple[AskedPatch, ...], prompt: Prompt) -> Configuration:
        several = (patches,) if isinstance(patches, AskedPatch) else patches
        return configuration_of(several, prompt, self._facts, untie=False)

    def _run(self, case: Case, configurations: Mapping[str, Configuration]) -> Row:
        run, names = PromptRun(self._grafter, case), list(configurations)
        answer = case.target[0]
        row: Row = {"base": told(run.reader.base, answer), "donor": told(run.reader.donor, answer)}
        for batch in batches(case, list(configurations.values()), self._facts.layers):
            for number, reading in zip(batch.numbers, run.read(batch.plans, batch.source), strict=True):
                row[names[number]] = told(reading, answer)
        return row
