"""What a request keeps on disk while it runs: facts for a later attempt, checkpoints, and the model in the making.

All of it is deleted when the request ends. Of a request that failed only what is known of the purged stores stays, for
they cannot be asked again what they had.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from palimpsest.certificates.files import replace
from palimpsest.disk import room_for
from palimpsest.settings import Settings

_STORES = "stores.json"


class Workspace:
    """The folder of one request.

    Parameters
    ----------
    settings
        ``state_dir`` is shared by servers and workers.
    principal, removal_id
        Whose request, and which.

    Attributes
    ----------
    key
        Names the request's folders.
    folder
        What is kept of it.
    made
        Folder of the new model until it is registered; complete if it is there.
    registered
        Its folder from then on.
    """

    def __init__(self, settings: Settings, principal: str, removal_id: str) -> None:
        self.key = hashlib.sha256(f"{principal}\n{removal_id}".encode()).hexdigest()[:32]
        self.folder = settings.state_dir / "unlearning" / "runs" / self.key
        self.made = settings.models_dir / f".unlearned-{self.key}"
        self.registered = settings.models_dir / f"unlearned-{self.key}"

    @property
    def checkpoints(self) -> Path:
        """Folder of the training run's states."""
        return self.folder / "checkpoints"

    @property
    def snapshots(self) -> Path:
        """Folder of the weights that a stopping rule may go back to."""
        return self.folder / "snapshots"

    def store(self, name: str) -> dict[str, Any] | None:
        """Return what is known of a store; None: nothing."""
        return (self.read(_STORES) or {}).get(name)

    def keep_store(self, name: str, facts: dict[str, Any] | None) -> None:
        """Keep what is known of a store; None forgets it."""
        self.write(_STORES, {**(self.read(_STORES) or {}), name: facts})

    def read(self, name: str) -> Any:
        """Return JSON that was written; None: nothing was."""
        try:
            return json.loads((self.folder / name).read_text())
        except FileNotFoundError:
            return None

    def write(self, name: str, value: Any) -> None:
        """Write JSON, whole or not at all.

        Raises
        ------
        ResourceExhausted
            DISK_FULL.
        """
        with room_for("a removal request's working folder"):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            replace(self.folder / name, json.dumps(value).encode())

    def drop(self, name: str) -> None:
        """Delete what was written, if it was."""
        (self.folder / name).unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete everything but what is known of stores."""
        self._drop_model()
        if not self.folder.is_dir():
            return
        for each in self.folder.iterdir():
            if each.is_dir():
                shutil.rmtree(each, ignore_errors=True)
            elif each.name != _STORES:
                each.unlink(missing_ok=True)

    def delete(self) -> None:
        """Delete everything."""
        self._drop_model()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _drop_model(self) -> None:
        for folder in (self.made, self.made.with_name(f"{self.made.name}.partial")):
            shutil.rmtree(folder, ignore_errors=True)
