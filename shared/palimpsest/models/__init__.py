"""Models: where they come from, what identifies them, and what each was made from."""

from palimpsest.models.catalogue import Lineage, ModelCatalogue
from palimpsest.models.convert import convert_gguf
from palimpsest.models.record import ModelRecord
from palimpsest.models.sample import sample_gguf

__all__ = ["Lineage", "ModelCatalogue", "ModelRecord", "convert_gguf", "sample_gguf"]
