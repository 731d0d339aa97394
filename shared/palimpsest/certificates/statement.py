"""What a certificate states: the schema of its content.

Digests, names, counts and decimal strings: no field takes a sentence, but for two that are fixed, so that nothing of
the removed text gets into a certificate. The settings of the algorithm are the issuer's own, and are checked for form
only.
"""

from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from palimpsest.certificates.canonical import canonical, digest
from palimpsest.certificates.records import Count, DecimalText, Digest, Name, Record, Time, Version
from palimpsest.errors import InvalidArgument

LIMITATIONS = (
    "This certificate attests a process and the measurements made of it. They are empirical evidence about the models "
    "named here under the tests listed here, not a proof that nothing of the removed data is left in the weights."
)
COVERAGE = (
    "The attacks were run at the listed precisions only. This certificate says nothing about any other precision of "
    "the weights."
)

Judgement = Literal["passed", "failed", "not_measured"]
Outcome = Literal["succeeded", "partial", "failed"]
Reference = Literal["retrained", "proxy_retrained", "holdout_calibrated", "base_model", "none"]
"""What the measurements were compared with: a model retrained without the data; a small one of its family trained both
with and without; the loss on held-out data; the model before fine-tuning; nothing."""


def _exactly(sentence: str) -> AfterValidator:
    def check(text: str) -> str:
        if text != sentence:
            raise ValueError("should be the fixed sentence of this version")
        return text

    return AfterValidator(check)


def _canonical_object(values: dict[str, Any]) -> dict[str, Any]:
    try:
        canonical(values)
    except InvalidArgument as error:
        raise ValueError(error.message) from None
    return values


class Manifest(Record):
    """The frozen list of what was to be removed: its digest and counts, such as documents and tokens.

    Texts that can be guessed can be confirmed by their digest: put a random salt into the manifest before hashing it.
    """

    digest: Digest
    counts: dict[Name, Count]


class Models(Record):
    """Fingerprints, as the registry gives them: the weights before and after, their base, their tokenizer."""

    before: Digest
    after: Digest
    base: Digest
    tokenizer: Digest


class Method(Record):
    """The algorithm and all of its settings; ``configuration_digest`` is of the settings' canonical JSON."""

    algorithm: Name
    configuration: Annotated[dict[str, Any], AfterValidator(_canonical_object)]
    configuration_digest: Digest

    @classmethod
    def make(cls, algorithm: str, configuration: dict[str, Any]) -> Self:
        """Build one with the digest; numbers that are not integers are given as ``decimal_text`` writes them."""
        found = digest(canonical(configuration))
        return cls.of({"algorithm": algorithm, "configuration": configuration, "configuration_digest": found})

    @model_validator(mode="after")
    def _digest_is_right(self) -> Self:
        if digest(canonical(self.configuration)) != self.configuration_digest:
            raise ValueError("configuration_digest should be of configuration")
        return self


class Run(Record):
    """What it ran on: version of the code, seeds by their purpose, class of hardware such as ``cpu-x86_64-float32``."""

    code: Name
    seeds: dict[Name, Count]
    hardware: Name


class Metric(Record):
    """One measurement of the model after.

    Attributes
    ----------
    name, split
        Such as ``verbatim_rouge_l`` on ``forget``.
    value
        None where the measurement is not a finite number, as on a model that has collapsed.
    low, high
        Ends of the confidence interval; both or neither.
    confidence
        Of the interval, such as ``0.95``; with it or not at all.
    n
        Number of items measured.
    reference
        The same of the reference model.
    """

    name: Name
    split: Name
    value: DecimalText | None
    low: DecimalText | None
    high: DecimalText | None
    confidence: DecimalText | None
    n: Count
    reference: DecimalText | None

    @model_validator(mode="after")
    def _interval_is_whole(self) -> Self:
        if len({self.low is None, self.high is None, self.confidence is None}) != 1:
            raise ValueError("low, high and confidence should be given together")
        return self


class Attack(Record):
    """One attack on the model after: its gain, the references' under the same, and the verdict.

    It ``passed`` if the value is at most the bound, and ``failed`` if it is more. Without a value it was not measured.
    """

    name: Name
    precision: Name
    metric: Name
    value: DecimalText | None
    reference: DecimalText | None
    bound: DecimalText | None
    n: Count
    verdict: Judgement

    @model_validator(mode="after")
    def _verdict_follows(self) -> Self:
        if self.value is None or self.bound is None:
            return self
        found = "passed" if Decimal(self.value) <= Decimal(self.bound) else "failed"
        if self.verdict != found:
            raise ValueError(f"verdict should be {found}, by value and bound")
        return self


class Attacks(Record):
    """The attack table, and the precisions of weights that it covers, such as ``float32`` and ``int8``.

    A precision at which nothing could be measured is not covered, though the attack is named.
    """

    precisions: list[Name]
    coverage: Annotated[str, _exactly(COVERAGE)]
    results: list[Attack]

    @model_validator(mode="after")
    def _precisions_are_those_tested(self) -> Self:
        measured = {attack.precision for attack in self.results if attack.verdict != "not_measured"}
        if measured != set(self.precisions):
            raise ValueError("precisions should be those of what was measured, all of them and no others")
        return self


class Store(Record):
    """One store beside the weights: what was purged, whether absence was then verified, and the evidence's digest."""

    name: Name
    kind: Name
    purged: Count
    absent: bool
    evidence: Digest


class Recheck(Record):
    """An earlier request of the same line of models, measured again on the model after: has its data come back?"""

    request: Name
    metric: Name
    then: DecimalText | None
    now: DecimalText | None
    verdict: Judgement


class Criterion(Record):
    """One criterion and its verdict: ``passed`` or ``failed`` by comparing ``value`` with ``bound``.

    A criterion of two bounds is two of one name. Without a value, or with one that tells nothing, it is
    ``not_measured``, and ``value`` is None.
    """

    name: Name
    value: DecimalText | None
    comparison: Literal["<=", ">="]
    bound: DecimalText
    verdict: Judgement

    @model_validator(mode="after")
    def _verdict_is_of_the_value(self) -> Self:
        found: Judgement = "not_measured"
        if self.value is not None:
            value, bound = Decimal(self.value), Decimal(self.bound)
            holds = value <= bound if self.comparison == "<=" else value >= bound
            found = "passed" if holds else "failed"
        if self.verdict != found:
            raise ValueError(f"verdict should be {found}, by value and bound")
        return self


class Statement(Record):
    """Everything that a certificate states about one request.

    Attributes
    ----------
    outcome
        ``succeeded`` only if all criteria, attacks and re-checks have passed and every store reports absence.
    issuer
        Id of the key that signs.
    """

    version: Version
    request: Name
    manifest: Manifest
    models: Models
    method: Method
    run: Run
    reference: Reference
    metrics: list[Metric]
    attacks: Attacks
    stores: list[Store]
    earlier_requests: list[Recheck]
    criteria: Annotated[list[Criterion], Field(min_length=1)]
    outcome: Outcome
    limitations: Annotated[str, _exactly(LIMITATIONS)]
    issuer: Digest
    issued: Time
    expires: Time

    @model_validator(mode="after")
    def _outcome_is_of_the_verdicts(self) -> Self:
        judged = [*self.criteria, *self.attacks.results, *self.earlier_requests]
        passed = all(each.verdict == "passed" for each in judged)
        if self.outcome == "succeeded" and not (passed and all(store.absent for store in self.stores)):
            raise ValueError(
                "outcome should not be succeeded where something has not passed or is not absent"
            )
        if self.issued >= self.expires:
            raise ValueError("expires should be after issued")
        return self
