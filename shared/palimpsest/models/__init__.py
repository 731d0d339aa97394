"""Models: where they come from, what identifies them, and what each was made from."""

from palimpsest.models.catalogue import Lineage, ModelCatalogue
from palimpsest.models.convert import convert_gguf
from palimpsest.models.fingerprint import Fingerprints, fingerprint_folder
from palimpsest.models.geometry import ModelGeometry
from palimpsest.models.pair import PairComparison, compare
from palimpsest.models.record import ModelRecord
from palimpsest.models.registration import register, register_made, unregister, verify
from palimpsest.models.sample import sample_gguf
from palimpsest.models.sources import check_source

__all__ = [
    "Fingerprints",
    "Lineage",
    "ModelCatalogue",
    "ModelGeometry",
    "ModelRecord",
    "PairComparison",
    "check_source",
    "compare",
    "convert_gguf",
    "fingerprint_folder",
    "register",
    "register_made",
    "sample_gguf",
    "unregister",
    "verify",
]
