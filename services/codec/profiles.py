"""Calibration profiles by model: the one for new contexts, and the few that are in memory.

Keys, under the installation's prefix: ``kv-profiles``, HASH of model fingerprint -> Profile as JSON. The profile itself
is an artefact whose digest is the profile's id.
"""

from typing import TYPE_CHECKING, cast

import redis
from google.protobuf import json_format

from palimpsest.api.codec.v1 import codec_pb2 as pb
from palimpsest.artifacts import ArtifactStore
from palimpsest.errors import FailedPrecondition, InvalidArgument, NotFound, Reason
from palimpsest.lru import LruCache
from palimpsest.redis import PUT_FIELD, growing, translated

if TYPE_CHECKING:
    from palimpsest.kv import CalibrationProfile

PROFILE_TYPE = "application/x-palimpsest-kv-profile"
_HELD = 4
"""Profiles kept in memory; each takes about a tenth of its model's weights."""


class ProfileCatalogue:
    """Profiles of models; blocks, and may be called from any thread.

    A model's profile is the installation's, as the model is: every principal may read its artefact.
    """

    def __init__(self, client: redis.Redis, prefix: str, artifacts: ArtifactStore) -> None:
        self._redis, self._key, self._artifacts = client, f"{prefix}kv-profiles", artifacts
        self._put = growing(client, PUT_FIELD)
        self._loaded: LruCache[str, CalibrationProfile] = LruCache(_HELD)

    def put(self, profile: pb.Profile) -> None:
        """Make a profile, whose artefact is stored, the one for new contexts of its model."""
        owner = f"profile/{profile.model_fingerprint}"
        earlier = self.find(profile.model_fingerprint)
        self._artifacts.references.add(owner, [profile.artifact])
        self._artifacts.references.holders.give_all(profile.artifact)
        with translated():
            text = json_format.MessageToJson(profile, preserving_proto_field_name=True, indent=None)
            self._put(keys=[self._key], args=[profile.model_fingerprint, text])
        if earlier is not None and earlier.artifact != profile.artifact:
            # Contexts that were coded with it refer to it themselves.
            self._artifacts.references.remove_owner(owner)
            self._artifacts.references.add(owner, [profile.artifact])

    def share(self) -> None:
        """Let every principal read the present profiles, which an earlier version may have stored."""
        with translated():
            stored = cast("list[bytes]", self._redis.hvals(self._key))
        for found in stored:
            profile = json_format.Parse(found, pb.Profile())
            self._artifacts.references.holders.give_all(profile.artifact)

    def find(self, fingerprint: str) -> pb.Profile | None:
        """Return a model's profile; None if it was never calibrated."""
        with translated():
            found = cast(bytes | None, self._redis.hget(self._key, fingerprint))
        return json_format.Parse(found, pb.Profile()) if found else None

    def get(self, model: str, fingerprint: str) -> pb.Profile:
        """Return a model's profile.

        Raises
        ------
        NotFound
            KV_PROFILE_MISSING: the model was never calibrated.
        """
        found = self.find(fingerprint)
        if found is None:
            message = f"{model!r} has no calibration profile. Call Calibrate, or use codec 'generic'."
            raise NotFound(Reason.KV_PROFILE_MISSING, message, metadata={"model": model})
        return found

    def load(self, digest: str) -> "CalibrationProfile":
        """Return the profile of a digest, from memory or from its artefact.

        Raises
        ------
        NotFound, DataLoss
            The artefact is gone or damaged.
        """
        from palimpsest.kv import CalibrationProfile

        return self._loaded.get_or_make(
            digest, lambda: CalibrationProfile.from_bytes(self._artifacts.read_bytes(digest))
        )


def require_usable(profiles: ProfileCatalogue, digest: str, model: str) -> None:
    """Load a new profile once, before it becomes the one that every new context of its model is coded with.

    Raises
    ------
    FailedPrecondition
        KV_PROFILE_INVALID: it cannot be loaded.
    """
    try:
        profiles.load(digest)
    except InvalidArgument as error:
        message = (
            f"What calibration learnt of {model!r} cannot be loaded again, so it was not stored: {error.message} The "
            "earlier profile, if there was one, stays in use. Calibrate with other texts, or use codec 'generic'."
        )
        raise FailedPrecondition(Reason.KV_PROFILE_INVALID, message, metadata={"model": model}) from error
