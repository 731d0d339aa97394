"""What a corpus is searched by: vectors, suffix arrays and terms of its parts, and the sentence encoder."""
