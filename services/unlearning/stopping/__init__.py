"""When to stop unlearning, and with which weights: probes, rules, references, and a search between two steps."""

from services.unlearning.stopping.epochs import EpochChoice as EpochChoice
from services.unlearning.stopping.measurements import Measurement as Measurement
from services.unlearning.stopping.probes import Probe as Probe
from services.unlearning.stopping.references import Reference as Reference
from services.unlearning.stopping.rules import Bound as Bound
from services.unlearning.stopping.rules import Decision as Decision
from services.unlearning.stopping.rules import DivergenceGuard as DivergenceGuard
from services.unlearning.stopping.rules import ForgetMatch as ForgetMatch
from services.unlearning.stopping.rules import HoldoutMatch as HoldoutMatch
from services.unlearning.stopping.rules import PrivacyMatch as PrivacyMatch
from services.unlearning.stopping.rules import Rule as Rule
from services.unlearning.stopping.rules import UtilityFloor as UtilityFloor
from services.unlearning.stopping.scalarisation import Scalarisation as Scalarisation
from services.unlearning.stopping.watch import Choice as Choice
from services.unlearning.stopping.watch import Watch as Watch
