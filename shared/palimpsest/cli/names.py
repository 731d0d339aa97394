"""Resource names, which people may give in full or by the id alone."""


def corpus_name(name: str) -> str:
    """Return the full name of a corpus: ``manual`` is ``corpora/manual``."""
    return name if name.startswith("corpora/") else f"corpora/{name}"


def context_name(name: str) -> str:
    """Return the full name of a context: ``manual`` is ``contexts/manual``."""
    return name if name.startswith("contexts/") else f"contexts/{name}"
