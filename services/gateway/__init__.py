"""The gateway: OpenAI-compatible HTTP over the rooms' gRPC, with the caller's own token.

It is no room: it mounts no service, keeps nothing, and reaches what its caller's token reaches.
"""
