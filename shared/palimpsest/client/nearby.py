"""The server that is meant where a program names none: the environment's, or the stack of this machine."""

from palimpsest.errors import Reason, Unavailable
from palimpsest.rpc.channel import Tls
from palimpsest.settings import CommandSettings, Settings


def found(token: str | None, tls: Tls | bool) -> tuple[str, str | None, Tls | bool]:
    """Return target, token and TLS; those given win over the environment's.

    Raises
    ------
    Unavailable
        SERVER_UNREACHABLE: the environment names none, and no stack runs here.
    """
    named = CommandSettings()
    token = token or named.token or None
    if named.server:
        return named.server, token, tls or named.tls
    from palimpsest.embedded.state import running

    settings = Settings()
    state = running(settings.state_dir)
    if state is None or not state.ready:
        raise Unavailable(
            Reason.SERVER_UNREACHABLE,
            f"No stack runs on {settings.state_dir}. Start one with `palimpsest up` or Client.local(), or name a "
            "server: Client('host:port').",
        )
    if not tls and settings.tls_certificate is not None:
        tls = Tls(ca=settings.tls_certificate)
    return state.target, token, tls
