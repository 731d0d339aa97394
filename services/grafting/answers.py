"""What calls that answer at once compute, once their models are loaded."""

from collections.abc import Callable, Sequence

from palimpsest.api.grafting.v1 import grafting_pb2 as pb
from services.grafting.asking import AskedCase, AskedPatch, configuration_of, read_case
from services.grafting.checking import changes_of, divergences
from services.grafting.convert import reading_message, token_texts
from services.grafting.engine import COMPONENTS, Grafter
from services.grafting.pairs import Pair
from services.grafting.positions import read_prompt
from services.grafting.runs import PromptRun, batches


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


def graft(
    pair: Pair, asked: AskedCase, patches: Sequence[AskedPatch], untie: bool, check: Callable[[], None]
) -> pb.GraftResponse:
    """Run and read one configuration beside both models' own passes.

    Raises
    ------
    InvalidArgument
        As of the contract's Graft.
    """
    prompt, case = read_case(asked, pair.tokenizer, pair.facts)
    configuration = configuration_of(patches, prompt, pair.facts, untie)
    layers = pair.facts.layers
    grafter = Grafter(pair.weights, pair.grafter.architecture, pair.grafter.device)
    run = PromptRun(grafter, case)
    (batch,) = batches(case, [configuration], layers)
    (reading,) = run.read(batch.plans, batch.source, check)
    marks = [0] * len(prompt.ids)
    for patch in configuration.patches:
        for position in patch.positions:
            marks[position] += 1
    return pb.GraftResponse(
        reading=reading_message(reading, pair.tokenizer),
        base=reading_message(run.reader.base, pair.tokenizer),
        donor=reading_message(run.reader.donor, pair.tokenizer),
        tokens=token_texts(pair.tokenizer, prompt.ids),
        patches=marks,
        target_tokens=token_texts(pair.tokenizer, case.target),
        row_layers=grafter.row_layers,
        naive_row_layers=3 * len(case.ids) * layers,
    )
