"""``palimpsest unlearn``: removal requests; whether a certificate is to be believed."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from palimpsest.cli.output import printing as output
from palimpsest.cli.output.exits import Exit, table
from palimpsest.cli.session import Json, guarded
from palimpsest.cli.unlearn import keys, requests

app = typer.Typer(help="Removal requests and their certificates.", no_args_is_help=True)
app.add_typer(keys.app, name="keys")
requests.add(app)

Certificate = Annotated[Path, typer.Argument(metavar="CERTIFICATE", help="The certificate's file.")]
Log = Annotated[Path, typer.Option("--log", metavar="FILE", help="The audit log, or a copy of it.")]
PublicKeys = Annotated[
    list[Path], typer.Option("--key", metavar="FILE", help="Public key of an issuer you trust; repeatable.")
]
Revoked = Annotated[
    Path | None, typer.Option("--revoked", metavar="FILE", help="The issuer's revocation list.")
]
Checkpoints = Annotated[
    Path | None, typer.Option("--checkpoints", metavar="FILE", help="Checkpoints that were kept of the log.")
]


@app.command(epilog=table())
def verify(
    certificate: Certificate,
    log: Log,
    key: PublicKeys,
    revoked: Revoked = None,
    checkpoints: Checkpoints = None,
    as_json: Json = False,
) -> None:
    """Verify a certificate from files alone: no server is asked. Exits with 1 if a check fails.

    A valid certificate attests a process and its measurements. It does not prove that nothing of the data is left.
    """

    def run() -> bool:
        from palimpsest.certificates import verify as verify_files

        now = datetime.now(UTC)
        checks = verify_files(certificate, log, key, now, revoked=revoked, checkpoints=checkpoints)
        valid = all(check.ok for check in checks)
        if as_json:
            output.print_json({"valid": valid, "checks": [asdict(check) for check in checks]})
        else:
            rows = [(check.name, "ok" if check.ok else "FAILED", check.found) for check in checks]
            output.print_table(["check", "result", "found"], rows)
            failed = sum(not check.ok for check in checks)
            typer.echo("The certificate is valid." if valid else f"NOT VALID: {failed} checks failed.")
            if revoked is None:
                output.note("Without --revoked, a revoked key or certificate is not noticed.")
        return valid

    if not guarded(run, as_json=as_json)():
        raise typer.Exit(Exit.FAILED)
