"""What calls that answer at once compute, once their models are loaded."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from palimpsest.api.grafting.v1 import grafting_pb2 as pb
from palimpsest.lm.detokenizer import Detokenizer
from services.grafting.asking import (
    AskedCase,
    AskedPatch,
    configuration_of,
    read_case,
    read_contrast,
    read_text,
)
from services.grafting.chats import Message
from services.grafting.checking import changes_of, divergences
from services.grafting.convert import reading_message, token_texts
from services.grafting.engine import COMPONENTS, Configuration, Grafter
from services.grafting.engine.generating import Decoding, generate
from services.grafting.pairs import Pair
from services.grafting.positions import read_prompt
from services.grafting.runs import Case, PromptRun, batches, require_fits
from services.grafting.sources import grafter_of


def check_pair(pair: Pair, prompt: str) -> pb.PairCheck:
    """Describe a pair that can be grafted.

    Raises
    ------
    InvalidArgument
        PROMPT_TOO_LONG.
    """
    architecture = pair.grafter.architecture
    answer = pb.PairCheck(
        compatible=True,
        architecture=architecture.name,
        layers=architecture.layers,
        tied=pair.facts.tied,
        components=[name for name in COMPONENTS if name != "gate" or architecture.has_gate],
        changes=[pb.ComponentChange(**change._asdict()) for change in changes_of(pair)],
    )
    if prompt:
        read = read_prompt(pair.tokenizer, prompt)
        for token, kl in zip(token_texts(pair.tokenizer, read.ids), divergences(pair, read.ids), strict=True):
            answer.tokens.add(token=token, kl=kl)
    return answer


class AskedGraft(NamedTuple):
    """What one call of Graft asks for."""

    case: AskedCase
    patches: Sequence[AskedPatch]
    untie: bool = False


def graft(pair: Pair, asked: AskedGraft, check: Callable[[], None]) -> pb.GraftResponse:
    """Run and read one configuration beside both models' own passes.

    Raises
    ------
    InvalidArgument
        As of the contract's Graft.
    """
    prompt, case = read_case(asked.case, pair.tokenizer, pair.facts)
    contrast = read_contrast(asked.case, case, pair.tokenizer, pair.facts)
    configuration = configuration_of(asked.patches, prompt, pair.facts, asked.untie, len(pair.others))
    grafter = grafter_of(pair, [each.donor for each in asked.patches])
    passes = _read(pair, grafter, case, configuration, check)
    answer = pb.GraftResponse(
        reading=passes.reading,
        base=passes.base,
        donor=passes.donor,
        tokens=token_texts(pair.tokenizer, prompt.ids),
        patches=[
            sum(at in patch.positions for patch in configuration.patches) for at in range(len(prompt.ids))
        ],
        target_tokens=token_texts(pair.tokenizer, case.target),
    )
    if contrast:
        old = _read(pair, grafter, contrast, configuration, check)
        margins = [new.logprob - other.logprob for new, other in zip(passes, old, strict=True)]
        answer.contrast.CopyFrom(pb.Contrast(
            reading=old.reading, base=old.base, donor=old.donor,
            margin=margins[0], base_margin=margins[1], donor_margin=margins[2],
        ))  # fmt: skip
    answer.row_layers = grafter.row_layers
    answer.naive_row_layers = 3 * pair.facts.layers * sum(len(each.ids) for each in (case, contrast) if each)
    return answer


class _Passes(NamedTuple):
    """What a graft and both models say of one target."""

    reading: pb.GraftReading
    base: pb.GraftReading
    donor: pb.GraftReading


def _read(
    pair: Pair, grafter: Grafter, case: Case, configuration: Configuration, check: Callable[[], None]
) -> _Passes:
    run = PromptRun(grafter, case)
    (batch,) = batches(case, [configuration], pair.facts.layers)
    (reading,) = run.read(batch.plans, batch.source, check)
    return _Passes(
        *(reading_message(r, pair.tokenizer) for r in (reading, run.reader.base, run.reader.donor))
    )


class AskedText(NamedTuple):
    """What one call of GenerateGrafted asks for."""

    prompt: str
    patches: Sequence[AskedPatch]
    untie: bool
    decoding: Decoding
    most: int
    chat: tuple[Message, ...] = ()


def generated(pair: Pair, asked: AskedText) -> Iterator[pb.GeneratedToken]:
    """Yield tokens of a grafted text as they are chosen.

    Raises
    ------
    InvalidArgument
        As of the contract's GenerateGrafted.
    """
    prompt = read_text(pair.tokenizer, asked.prompt, asked.chat)
    require_fits(Case(prompt.ids, (0,) * asked.most), pair.facts.context, "prompt")
    configuration = configuration_of(asked.patches, prompt, pair.facts, asked.untie, len(pair.others))
    text = Detokenizer(pair.tokenizer)
    grafter = grafter_of(pair, [each.donor for each in asked.patches])
    steps = generate(grafter, prompt.ids, configuration, asked.decoding, asked.most, pair.ends)
    for token, logprob, ends, last in steps:
        stop = pb.GRAFT_STOP_END if ends else pb.GRAFT_STOP_LENGTH if last else pb.GRAFT_STOP_UNSPECIFIED
        told = "" if ends else text.push(token)
        if stop != pb.GRAFT_STOP_UNSPECIFIED:
            told += text.finish()
        yield pb.GeneratedToken(token=token, text=told, logprob=logprob, stop=stop)
