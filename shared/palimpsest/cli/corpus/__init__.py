"""Commands on corpora: ``palimpsest corpus``."""
