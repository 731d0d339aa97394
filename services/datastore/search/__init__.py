"""Finding passages: hybrid search, verbatim continuations, and candidate blocks."""
