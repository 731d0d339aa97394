"""N-gram stores of corpora and texts: catalogue, builds, look-ups."""
