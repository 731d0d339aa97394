"""The tour of the whole stack: ``palimpsest demo``."""
