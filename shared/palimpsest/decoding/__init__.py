"""Decoding strategies over the engine, usable without services: several drafts at once, and quoting."""
