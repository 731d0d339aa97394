"""Models: where they come from, what identifies them, and what each was made from."""

from palimpsest.models.convert import convert_gguf
from palimpsest.models.sample import sample_gguf

__all__ = ["convert_gguf", "sample_gguf"]
