"""What every server and client shares: server scaffold, interceptors, channels, calls between rooms.

Importing this package imports neither a room nor a server; import what you need from its modules.
"""

from palimpsest.rpc.calls import CallInfo, call

__all__ = ["CallInfo", "call"]
