"""Quoting while generating: nearest neighbour speculative decoding over a block of retrieved passages.

The modules below that run a model (``keys``, ``quoting``, ``scoring``, ``states``) import torch; those exported here
do not.
"""

from palimpsest.nest.candidates import Candidates, Owner, Passage
from palimpsest.nest.settings import Calibration, Mode, Settings

__all__ = ["Calibration", "Candidates", "Mode", "Owner", "Passage", "Settings"]
