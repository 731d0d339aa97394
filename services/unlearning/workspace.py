"""What a request keeps on disk while it runs: facts for a later attempt, checkpoints, and the model in the making.

All of it is deleted when the request ends, with two exceptions for ``RetryJob``, until the job's record goes: of a
request that failed, what is known of the purged stores stays, for they cannot be asked again what they had; of one that
failed for want of room everything does, for it goes on from there.

Each folder says whose it is, so that what an attempt leaves that dies is found: see ``requests.sweeping``.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from palimpsest.certificates.files import replace, write_new
from palimpsest.disk import delete_tree, room_for, untouched_seconds
from palimpsest.settings import Settings

_STORES, _WHOSE = "stores.json", "request.json"
_MODELS = ".unlearned-"


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
    principal, removal_id
        As given.
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
        self.principal, self.removal_id = principal, removal_id
        self.key = hashlib.sha256(f"{principal}\n{removal_id}".encode()).hexdigest()[:32]
        self.folder = _root(settings) / self.key
        self.made = settings.models_dir / f"{_MODELS}{self.key}"
        self.registered = settings.models_dir / f"unlearned-{self.key}"

    @property
    def checkpoints(self) -> Path:
        """Folder of the training run's states."""
        return self.folder / "checkpoints"

    @property
    def snapshots(self) -> Path:
        """Folder of the weights that a stopping rule may go back to."""
        return self.folder / "snapshots"

    def begin(self) -> None:
        """Say whose the folder is, before anything else is in it.

        Raises
        ------
        ResourceExhausted
            DISK_FULL.
        """
        if self.read(_WHOSE) is None:
            self.write(_WHOSE, {"principal": self.principal, "removal_id": self.removal_id})

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

    def write_new(self, name: str, value: Any) -> bool:
        """Write JSON, unless something is written; returns whether this was. Of two writers the first one's stays.

        Raises
        ------
        ResourceExhausted
            DISK_FULL.
        """
        with room_for("a removal request's working folder"):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                write_new(self.folder / name, json.dumps(value).encode())
            except FileExistsError:
                return False
        return True

    def drop(self, name: str) -> None:
        """Delete what was written, if it was."""
        (self.folder / name).unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete everything but what is known of stores."""
        self._drop_model()
        if not (self.folder / _STORES).exists():
            delete_tree(self.folder)
            return
        for each in self.folder.iterdir():
            if each.is_dir():
                delete_tree(each)
            elif each.name not in (_STORES, _WHOSE):
                each.unlink(missing_ok=True)

    def delete(self) -> None:
        """Delete everything."""
        self._drop_model()
        delete_tree(self.folder)

    def _drop_model(self) -> None:
        for folder in (self.made, self.made.with_name(f"{self.made.name}.partial")):
            delete_tree(folder)


def workspaces(settings: Settings) -> Iterator[Workspace]:
    """Every request's folder that says whose it is."""
    for folder in _folders(_root(settings)):
        try:
            whose = json.loads((folder / _WHOSE).read_text())
        except FileNotFoundError:  # nobody's, or deleted meanwhile
            continue
        yield Workspace(settings, whose["principal"], whose["removal_id"])


def strays(settings: Settings, seconds: float) -> Iterator[Path]:
    """Folders that do not say whose they are, and that nobody has changed for so many seconds.

    Such as those of an attempt that was believed dead, and woke once its request had ended.
    """
    root = _root(settings)
    for folder in _folders(root):
        if not (folder / _WHOSE).exists() and untouched_seconds(folder) > seconds:
            yield folder
    for made in settings.models_dir.glob(f"{_MODELS}*"):
        key = made.name.removeprefix(_MODELS).partition(".")[0]
        if not (root / key).exists() and untouched_seconds(made) > seconds:
            yield made


def _root(settings: Settings) -> Path:
    return settings.state_dir / "unlearning" / "runs"


def _folders(root: Path) -> list[Path]:
    return [each for each in root.iterdir() if each.is_dir()] if root.is_dir() else []
