"""N-gram stores of corpora and uploaded texts: the catalogue, builds and look-ups."""
