"""What is measured of a model of the lab: MUSE's four numbers, and what explains them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from services.unlearning.corpora import Question, Verbatim
from services.unlearning.metrics import (
    Bootstrap,
    Membership,
    Pair,
    Prompt,
    Text,
    knowledge_memory,
    membership,
    perplexity,
    privacy_leak,
    utility,
    verbatim_memory,
)
from services.unlearning.metrics.membership import auc
from services.unlearning.metrics.scores import Score
from tests.benchmarks.unlearning.lab import TEMPLATE, Lab

_NO_INTERVAL = Bootstrap(resamples=0)


@dataclass(frozen=True)
class Measured:
    """Of one model, in percent.

    Attributes
    ----------
    verbmem, knowmem
        Of the forget set.
    privleak
        Against the retrained model on the same texts.
    utility
        KnowMem of retain2.
    auc
        P(a holdout text looks less familiar than a forget text is familiar), in MUSE's orientation.
    spread
        Standard errors of the first four over the items they are means of.
    """

    verbmem: float
    knowmem: float
    privleak: float
    utility: float
    auc: float
    spread: tuple[float, ...] = ()

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Measured":
        """From a file."""
        return cls(**{**facts, "spread": tuple(facts["spread"])})

    def line(self) -> str:
        """For a table."""
        return (
            f"V {self.verbmem:.1f}, K {self.knowmem:.1f}, P {self.privleak:+.1f}, U {self.utility:.1f}, "
            f"AUC {self.auc:.3f}"
        )


class Scorer:
    """Measures models against a lab's data and its retrained model."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.corpus = lab, lab.corpus

    @cached_property
    def reference(self) -> Membership:
        """Membership scores of the retrained model."""
        return self.membership(self.lab.load(self.lab.retrained).module)

    def measure(self, module: Any) -> Measured:
        """Measure a model."""
        return self.measured(module)[0]

    def measured(self, module: Any) -> tuple[Measured, dict[str, list[float]]]:
        """Measure a model; also values of the single items of VerbMem, KnowMem and utility."""
        found = self.membership(module)
        scores = (
            self.verbatim_score(module, self.corpus.verbatim["forget"]),
            self.knowledge_score(module, self.corpus.trained("forget")),
            privacy_leak(found, self.reference, Bootstrap(resamples=400)),
            self._utility(module),
        )
        verbmem, knowmem, privleak, kept = (score.value for score in scores)
        familiar = auc(list(found.forget.values()), list(found.holdout.values()))
        items = {
            score.metric: [item.value for item in score.items]
            for score in scores
            if score.metric != "privleak"
        }
        return Measured(verbmem, knowmem, privleak, kept, familiar, _errors(scores)), items

    def membership(self, module: Any) -> Membership:
        """Min-K% scores of forget and holdout texts."""
        forget, holdout = (
            [Text(each.id, each.text) for each in self.corpus.excerpts[split]]
            for split in ("forget", "holdout")
        )
        return membership(module, self.lab.tokenizer, forget, holdout)["min_k"]

    def verbatim(self, module: Any, rows: tuple[Verbatim, ...]) -> float:
        """VerbMem of some prompts."""
        return self.verbatim_score(module, rows).value

    def verbatim_score(self, module: Any, rows: tuple[Verbatim, ...]) -> Score:
        """As before, with the values of single prompts."""
        prompts = [Prompt(each.id, each.prompt, each.gt) for each in rows]
        return verbatim_memory(module, self.lab.tokenizer, prompts, bootstrap=_NO_INTERVAL)

    def knowledge(self, module: Any, rows: tuple[Question, ...], form: int = 0) -> float:
        """KnowMem of some questions, in their trained form (0) or a paraphrase (1, 2)."""
        return self.knowledge_score(module, rows, form).value

    def knowledge_score(self, module: Any, rows: tuple[Question, ...], form: int = 0) -> Score:
        """As before, with the values of single questions."""
        pairs = [
            Pair(each.id, (each.question, *each.paraphrases)[form], each.answer, each.aliases)
            for each in rows
        ]
        return knowledge_memory(module, self.lab.tokenizer, pairs, template=TEMPLATE, bootstrap=_NO_INTERVAL)

    def utility(self, module: Any) -> float:
        """KnowMem of retain2."""
        return self._utility(module).value

    def _utility(self, module: Any) -> Score:
        pairs = [
            Pair(each.id, each.question, each.answer, each.aliases) for each in self.corpus.trained("retain2")
        ]
        return utility(module, self.lab.tokenizer, pairs, template=TEMPLATE, bootstrap=_NO_INTERVAL)

    def explained(self, module: Any) -> dict[str, float]:
        """Numbers that say how a model knows what it knows."""
        forget = self.corpus.questions["forget"]
        prose = tuple(each for each in forget if each.training == "prose_only")
        unseen = [Text(each.id, each.text) for each in self.lab.generic.unseen]
        return {
            "KnowMem, paraphrased questions": self.knowledge(module, self.corpus.trained("forget"), 1),
            "KnowMem, prose only": self.knowledge(module, prose),
            "VerbMem of retain2": self.verbatim(module, self.corpus.verbatim["retain2"]),
            "perplexity of unseen generic text": perplexity(
                module, self.lab.tokenizer, unseen, bootstrap=_NO_INTERVAL
            ).value,
        }


def _errors(scores: tuple[Score, ...]) -> tuple[float, ...]:
    """Standard errors over items; of PrivLeak, which is no mean, that of a normal with its interval."""
    found = []
    for score in scores:
        if score.interval is not None:
            found.append((score.interval[1] - score.interval[0]) / (2 * 1.96))
        else:
            found.append(float(np.std([item.value for item in score.items], ddof=1) / np.sqrt(score.n)))
    return tuple(found)
