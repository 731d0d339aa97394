"""Settings: everything that ``PALIMPSEST_*`` variables set, in one class for each reader.

``Settings`` is for every process; a room with settings of its own has a class in a module named after it, and the
command line has one too. All of them live here rather than in ``services/<room>``, so that ``palimpsest config show``,
which has to work without the services, can show them. Each reads the environment once, when it is made; pass the
object on.
"""

from pydantic_settings import BaseSettings

from palimpsest.settings.codec import CodecSettings
from palimpsest.settings.command import CommandSettings
from palimpsest.settings.datastore import DatastoreSettings
from palimpsest.settings.gateway import GatewaySettings
from palimpsest.settings.installation import SECRETS, Settings

__all__ = [
    "ALL_SETTINGS",
    "SECRETS",
    "CodecSettings",
    "CommandSettings",
    "DatastoreSettings",
    "GatewaySettings",
    "Settings",
    "variable",
]

ALL_SETTINGS: tuple[type[BaseSettings], ...] = (
    Settings,
    CodecSettings,
    DatastoreSettings,
    GatewaySettings,
    CommandSettings,
)
"""Every class of settings, in the order they are shown; a test finds the classes that are missing here."""


def variable(settings: type[BaseSettings], field: str) -> str:
    """Return the environment variable that sets a field: ``PALIMPSEST_LISTEN`` for ``listen``."""
    return f"{settings.model_config.get('env_prefix', '')}{field}".upper()
