"""``palimpsest unlearn keys``: the keys that sign certificates: new, list, revoke."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palimpsest.cli.output import printing as output
from palimpsest.cli.output.exits import table
from palimpsest.cli.session import Json, guarded

if TYPE_CHECKING:
    from palimpsest.certificates.key_store import StoredKey

app = typer.Typer(help="Keys that sign certificates.", no_args_is_help=True, epilog=table())

Folder = Annotated[Path, typer.Option("--folder", metavar="FOLDER", help="Folder of the keys.")]


@app.command(epilog=table())
def new(
    folder: Folder,
    days: Annotated[int, typer.Option(min=1, max=36_500, help="How long it signs.")] = 730,
    as_json: Json = False,
) -> None:
    """Make a key; the newest one signs. Certificates of older keys stay valid until they expire."""

    def run() -> None:
        from palimpsest.certificates import KeyStore

        now = datetime.now(UTC)
        _show(KeyStore(folder).new(now, days), now, as_json)

    guarded(run, as_json=as_json)()


@app.command("list", epilog=table())
def list_(folder: Folder, as_json: Json = False) -> None:
    """List the keys of a folder, oldest first."""

    def run() -> None:
        from palimpsest.certificates import KeyStore

        now = datetime.now(UTC)
        keys = [_plain(key, now) for key in KeyStore(folder).stored()]
        if as_json:
            output.print_json(keys)
        else:
            columns = ["id", "created", "expires", "state", "public_key"]
            output.print_table(columns, [[key[column] for column in columns] for key in keys])

    guarded(run, as_json=as_json)()


@app.command(epilog=table())
def revoke(
    key: Annotated[str, typer.Argument(metavar="ID", help="Id of the key, or the first digits of it.")],
    folder: Folder,
    reason: Annotated[str, typer.Option(metavar="WORD", help="Why, in one word.")] = "compromised",
    as_json: Json = False,
) -> None:
    """Revoke a key and destroy its private half: no certificate that it signed is valid any more."""

    def run() -> None:
        from palimpsest.certificates import KeyStore

        now = datetime.now(UTC)
        _show(KeyStore(folder).revoke(key, reason, now), now, as_json)

    guarded(run, as_json=as_json)()


def _plain(key: "StoredKey", now: datetime) -> dict[str, Any]:
    return {
        "id": key.public.id,
        "created": key.public.created,
        "expires": key.public.expires,
        "state": key.state(now),
        "public_key": str(key.file),
    }


def _show(key: "StoredKey", now: datetime, as_json: bool) -> None:
    if as_json:
        output.print_json(_plain(key, now))
    else:
        output.print_fields(_plain(key, now))
