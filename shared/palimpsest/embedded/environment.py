"""Settings as environment variables, for child processes."""

import json
from pathlib import Path

from palimpsest.settings import Settings


def settings_environment(settings: Settings) -> dict[str, str]:
    """Return the ``PALIMPSEST_*`` variables from which a child's ``Settings()`` comes out equal.

    Paths are made absolute: the child works in another folder.
    """
    variables: dict[str, str] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if value is None:
            continue
        if isinstance(value, Path):
            text = str(value.absolute())
        elif isinstance(value, list):
            text = ":".join(str(Path(item).absolute()) for item in value)
        elif isinstance(value, dict):
            text = json.dumps(value)
        else:
            text = str(value)
        variables[f"PALIMPSEST_{name.upper()}"] = text
    return variables
