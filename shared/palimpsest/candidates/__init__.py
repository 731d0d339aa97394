"""Candidate blocks: retrieved passages with their tokens and retrieval keys, searched while text is generated (NEST).

The modules that run a model (``keys``, ``mixture``, ``samples``) import torch; those exported here do not.
"""

from palimpsest.candidates.block import Candidates
from palimpsest.candidates.passages import Owner, Passage
from palimpsest.candidates.settings import Calibration, Mode, NestSettings

__all__ = ["Calibration", "Candidates", "Mode", "NestSettings", "Owner", "Passage"]
