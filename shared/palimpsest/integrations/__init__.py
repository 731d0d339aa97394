"""Palimpsest inside other people's servers: LMCache stores coded chunks, vLLM loads stored contexts.

Neither is needed to import these modules; each says which extra brings it when it is missing.
"""
