"""Finding passages: words and meaning fused, continuations word for word, candidate blocks."""
