"""What requests leave behind that ended without a word: found and cleared up, whether or not anybody looks at them.

The last attempt that a job may have deletes nothing if it is killed. Its folder has the weights in the making, which
still know what is to be forgotten.
"""

import structlog

from palimpsest.disk import delete_tree, finish_deletions, untouched_seconds
from palimpsest.errors import PalimpsestError
from palimpsest.settings import Settings
from services.unlearning.requests.records import RemovalCatalogue
from services.unlearning.requests.settling import Settler
from services.unlearning.requests.states import SETTLED, can_go_on, ended
from services.unlearning.workspace import Workspace, strays, workspaces

_log = structlog.get_logger(__name__)
UNTOUCHED_SECONDS = 24 * 3600.0
"""A folder of no known request is deleted once nobody has changed it for so long."""


class RequestSweep:
    """Settles requests that have ended, and deletes what is left of them. Blocks; any number may run at once.

    Parameters
    ----------
    requests, settler
        The requests, and what settles them.
    settings
        Of the installation.
    untouched
        Seconds; see ``UNTOUCHED_SECONDS``.
    """

    def __init__(
        self,
        requests: RemovalCatalogue,
        settler: Settler,
        settings: Settings,
        untouched: float = UNTOUCHED_SECONDS,
    ) -> None:
        self._requests, self._settler, self._settings = requests, settler, settings
        self._untouched = untouched

    def run(self) -> None:
        """Look at every working folder once.

        Raises
        ------
        Unavailable
            JOB_STORE_UNAVAILABLE.
        """
        for space in workspaces(self._settings):
            try:
                self._look(space)
            except PalimpsestError as error:
                # One request's log may be damaged, or Redis be away; the others are looked at all the same.
                _log.warning(
                    "a working folder is not cleared up", removal=space.removal_id, why=error.message
                )
        for folder in strays(self._settings, self._untouched):
            delete_tree(folder)
        for parent in (self._settings.state_dir / "unlearning" / "runs", self._settings.models_dir):
            finish_deletions(parent)

    def _look(self, space: Workspace) -> None:
        record = self._requests.find(space.principal, space.removal_id)
        if record is None:  # of an installation whose Redis was emptied
            if untouched_seconds(space.folder) > self._untouched:
                space.delete()
            return
        found = self._settler.now(space.principal, record)
        if not ended(found):
            return
        if found.message.state in SETTLED or self._settler.job(found) is None:
            space.delete()
            self._settler.release(space.principal, space.removal_id)
        elif not can_go_on(found):
            space.clear()
