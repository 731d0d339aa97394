"""Index structures of a corpus: terms, passage vectors and suffix arrays, and the sentence encoder."""
