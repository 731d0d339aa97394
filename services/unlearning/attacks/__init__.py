"""Attacks on unlearned models: do they still hold what was to be removed?

Each attack changes a model's weights for a while (quantisation, relearning) or asks it in another way (few-shot,
paraphrases, case, prefixes, sampling). Every attack is run on the unlearned model, on retrained ones and on one that
never knew; :func:`table` tells what it brings back in the first over what it brings in the others.
"""

from services.unlearning.attacks.asking import Query as Query
from services.unlearning.attacks.asking import asking as asking
from services.unlearning.attacks.asking import cut as cut
from services.unlearning.attacks.asking import few_shot as few_shot
from services.unlearning.attacks.asking import lower_cased as lower_cased
from services.unlearning.attacks.asking import of_prefixes as of_prefixes
from services.unlearning.attacks.asking import of_questions as of_questions
from services.unlearning.attacks.asking import paraphrased as paraphrased
from services.unlearning.attacks.outcomes import Attack as Attack
from services.unlearning.attacks.outcomes import Failure as Failure
from services.unlearning.attacks.outcomes import Outcome as Outcome
from services.unlearning.attacks.outcomes import Scores as Scores
from services.unlearning.attacks.outcomes import attack_model as attack_model
from services.unlearning.attacks.quantisation import quantisation as quantisation
from services.unlearning.attacks.quantisation import standard_schemes as standard_schemes
from services.unlearning.attacks.recovery import KNOWLEDGE as KNOWLEDGE
from services.unlearning.attacks.recovery import VERBATIM as VERBATIM
from services.unlearning.attacks.recovery import Metric as Metric
from services.unlearning.attacks.related import related as related
from services.unlearning.attacks.relearning import held_out as held_out
from services.unlearning.attacks.relearning import part_of as part_of
from services.unlearning.attacks.relearning import relearning as relearning
from services.unlearning.attacks.sampling import sampling as sampling
from services.unlearning.attacks.table import Row as Row
from services.unlearning.attacks.table import Unmeasured as Unmeasured
from services.unlearning.attacks.table import table as table
