"""From values to bytes and back: quantiser, entropy coder, lossless coder."""
