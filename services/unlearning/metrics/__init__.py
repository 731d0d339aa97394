"""Metrics of a removal: what is remembered, what is leaked, what is kept, and how deep the removal goes.

Each takes transformers' module and tokenizer and gives :class:`Score`, with an interval and the values of the items.
"""

from services.unlearning.metrics.depth import Depth, depth_score
from services.unlearning.metrics.extraction import extraction_scores
from services.unlearning.metrics.fluency import fluency, perplexity
from services.unlearning.metrics.intervals import Bootstrap
from services.unlearning.metrics.items import MUSE_TEMPLATE, Pair, Prompt, Template, Text
from services.unlearning.metrics.lira import lira_report, lira_scores
from services.unlearning.metrics.membership import Membership, auc_score, length_match, membership
from services.unlearning.metrics.muse import knowledge_memory, privacy_leak, utility, verbatim_memory
from services.unlearning.metrics.scores import Definition, ItemValue, Score
from services.unlearning.metrics.tables import as_json, as_markdown, as_table, item_lines
from services.unlearning.metrics.tofu import (
    forget_quality,
    kept_rouge,
    model_utility,
    probability,
    truth_ratio_score,
    truth_ratios,
)

__all__ = [
    "MUSE_TEMPLATE",
    "Bootstrap",
    "Definition",
    "Depth",
    "ItemValue",
    "Membership",
    "Pair",
    "Prompt",
    "Score",
    "Template",
    "Text",
    "as_json",
    "as_markdown",
    "as_table",
    "auc_score",
    "depth_score",
    "extraction_scores",
    "fluency",
    "forget_quality",
    "item_lines",
    "kept_rouge",
    "knowledge_memory",
    "length_match",
    "lira_report",
    "lira_scores",
    "membership",
    "model_utility",
    "perplexity",
    "privacy_leak",
    "probability",
    "truth_ratio_score",
    "truth_ratios",
    "utility",
    "verbatim_memory",
]
