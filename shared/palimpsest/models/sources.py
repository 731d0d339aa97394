"""Sources: from what a user writes to a folder that can be checked.

A source is a folder, a ``.gguf`` file, ``hub:<owner>/<name>[@<revision>]`` or ``sample``.
"""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from palimpsest.errors import InvalidArgument, NotFound, PermissionDenied, Reason, Unavailable
from palimpsest.models.convert import convert_gguf
from palimpsest.models.files import require_regular, require_regular_files
from palimpsest.models.sample import sample_gguf
from palimpsest.progress import Progress
from palimpsest.settings import Settings

_HUB = re.compile(r"hub:(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_HUB_FILES = [
    "*.safetensors",
    "*.safetensors.index.json",
    "*.json",
    "*.jinja",
    "*.txt",
    "tokenizer.model",
    "spiece.model",
]


@dataclass(frozen=True)
class LocalSource:
    """A source that has become a folder: where it is, and the format it came in (safetensors or gguf)."""

    folder: Path
    source_format: str


def check_source(source: str, settings: Settings) -> None:
    """Refuse a source that this installation does not allow; reads no file.

    Raises
    ------
    InvalidArgument
        INVALID_REQUEST: not a source.
    PermissionDenied
        MODEL_SOURCE_FORBIDDEN: a path outside the model roots, or any path on a server that others can reach
        and that has no model roots.
    """
    if source == "sample":
        return
    if source.startswith("hub:"):
        if not _HUB.fullmatch(source):
            raise _not_a_source("A hub source is hub:<owner>/<name>, or hub:<owner>/<name>@<revision>.")
        return
    path = Path(source)
    if not path.is_absolute() or "\0" in source:
        raise _not_a_source("A source is an absolute path on the server, hub:<owner>/<name>, or sample.")
    roots = settings.model_roots
    if roots is None and not _local_only(settings.listen):
        message = "This server is reachable from other machines and names no PALIMPSEST_MODEL_ROOTS to register from."
        raise PermissionDenied(Reason.MODEL_SOURCE_FORBIDDEN, message)
    _check_inside(path, roots)


def fetch_source(source: str, settings: Settings, progress: Progress) -> LocalSource:
    """Turn a source into a folder, converting or downloading as needed.

    Raises
    ------
    NotFound
        MODEL_SOURCE_NOT_FOUND.
    InvalidArgument
        MODEL_INVALID: a GGUF file that is damaged or cannot be converted, or something that is no regular file; or as
        check_source.
    PermissionDenied
        As check_source.
    Unavailable
        HUB_UNAVAILABLE.
    """
    check_source(source, settings)
    if source == "sample":
        return LocalSource(convert_gguf(sample_gguf(), settings.models_dir, progress), "gguf")
    if match := _HUB.fullmatch(source):
        progress.step(0, 1, "downloading")
        return LocalSource(
            _download(match["repository"], match["revision"], settings.hub_offline), "safetensors"
        )
    path = Path(source)
    if path.is_dir():
        for file in path.iterdir():
            _check_inside(file, settings.model_roots)
        require_regular_files(path)
        return LocalSource(path.resolve(), "safetensors")
    if not path.exists():
        raise NotFound(Reason.MODEL_SOURCE_NOT_FOUND, f"There is no folder or file {path} on the server.")
    require_regular(path)
    if path.suffix != ".gguf":
        message = f"{path} is a single file. Register the model's folder, or a .gguf file."
        raise InvalidArgument(Reason.MODEL_INVALID, message)
    return LocalSource(convert_gguf(path, settings.models_dir, progress), "gguf")


def _download(repository: str, revision: str | None, offline: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        folder = snapshot_download(
            repository, revision=revision, local_files_only=offline, allow_patterns=_HUB_FILES
        )
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        message = f"The hub has no {repository} at {revision or 'its main revision'}, or shows it only with a token."
        raise NotFound(Reason.MODEL_SOURCE_NOT_FOUND, message) from error
    except LocalEntryNotFoundError as error:
        if not offline:
            raise Unavailable(
                Reason.HUB_UNAVAILABLE, f"The hub does not answer: {error}", retry_after=30
            ) from error
        message = (
            f"{repository} is not in the local hub cache, and this server does not ask the hub. Run "
            f"`hf download {repository}` there, or set PALIMPSEST_HUB_OFFLINE=false."
        )
        raise NotFound(Reason.MODEL_SOURCE_NOT_FOUND, message) from error
    except OSError as error:
        raise Unavailable(
            Reason.HUB_UNAVAILABLE, f"The hub does not answer: {error}", retry_after=30
        ) from error
    return Path(folder)


def _check_inside(path: Path, roots: list[Path] | None) -> None:
    """Follow links first: a link inside a root may point out of it."""
    if roots is not None and not any(path.resolve().is_relative_to(root.resolve()) for root in roots):
        allowed = ", ".join(str(root) for root in roots)
        message = f"{path} is outside the folders models may be registered from: {allowed} (PALIMPSEST_MODEL_ROOTS)."
        raise PermissionDenied(Reason.MODEL_SOURCE_FORBIDDEN, message)


def _local_only(listen: str) -> bool:
    host = listen.rpartition(":")[0].strip("[]")
    if listen.startswith("unix:") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _not_a_source(message: str) -> InvalidArgument:
    return InvalidArgument.field(Reason.INVALID_REQUEST, "source", message)
