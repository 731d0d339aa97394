"""The gRPC house every room stands in: server scaffold, interceptors, channels, error translation.

Importing this package imports neither a room nor a server; take what is needed from its modules.
"""

from palimpsest.rpc.calls import CallInfo, call

__all__ = ["CallInfo", "call"]
