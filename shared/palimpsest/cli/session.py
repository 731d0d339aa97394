"""What every command that talks to a server shares: where it is, how to print, how to end."""

import inspect
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import Annotated, Any, ParamSpec, TypeVar, get_type_hints

import typer
from google.protobuf.message import Message

from palimpsest.cli.output import printing as output
from palimpsest.cli.output.exits import Exit, exit_code, table
from palimpsest.client import Client
from palimpsest.client.requests import FieldValueError
from palimpsest.disk import is_full
from palimpsest.errors import PalimpsestError
from palimpsest.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")

Server = Annotated[
    str,
    typer.Option(
        "--server",
        envvar="PALIMPSEST_SERVER",
        metavar="HOST:PORT",
        help="Server to talk to. Default: this machine's own stack, started if need be.",
    ),
]
Token = Annotated[
    str,
    typer.Option("--token", envvar="PALIMPSEST_TOKEN", metavar="TOKEN", help="Bearer token, if asked for."),
]
Tls = Annotated[bool, typer.Option("--tls", envvar="PALIMPSEST_TLS", help="Use TLS to --server.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON: one document, or one a line for streams.")]

OTHER_VERBS = {"list": "ls", "show": "stat", "delete": "rm"}
"""What commands of every group answer to as well."""

_SHARED = {"server": (Server, ""), "token": (Token, ""), "tls": (Tls, False), "json": (Json, False)}


class Session:
    """One run of a command.

    Attributes
    ----------
    json
        Print for programs.
    """

    def __init__(self, server: str = "", token: str = "", tls: bool = False, json: bool = False) -> None:
        self.server = server
        self.token = token
        self.tls = tls
        self.json = json

    def client(self) -> Client:
        """Connect: to the server named, else to the local stack, started if none runs."""
        if self.server:
            return Client(self.server, token=self.token or None, tls=self.tls)
        from palimpsest.embedded.state import is_locked

        settings = Settings()
        if not is_locked(settings.state_dir):
            output.note(f"Starting a stack on {settings.state_dir}; `palimpsest down` stops it.")
        return Client.local(settings, token=self.token or None)

    def show(self, message: Message) -> None:
        """Print one resource."""
        if self.json:
            output.print_json(message)
        else:
            output.print_fields(output.readable(message))

    def deleted(self, names: str | list[str]) -> None:
        """Say what was deleted."""
        if self.json:
            output.print_json({"deleted": names})
        else:
            for name in [names] if isinstance(names, str) else names:
                typer.echo(f"Deleted {name}.")


def command(app: typer.Typer, name: str | None = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register ``f(session, ...)`` as a command that also takes --server, --token, --tls and --json.

    A parameter whose type is a dataclass stands for the options that the dataclass's fields are.
    """

    def decorate(declared: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(declared)
        def run(**values: Any) -> None:
            session = Session(**{key: values.pop(key) for key in _SHARED})
            for name, kind in groups.items():
                values[name] = kind(**{each.name: values.pop(each.name) for each in fields(kind)})
            guarded(declared, as_json=session.json)(session, **values)

        hints = get_type_hints(declared, include_extras=True)
        own = list(inspect.signature(declared).parameters.values())[1:]
        groups: dict[str, Any] = {p.name: hints[p.name] for p in own if is_dataclass(hints[p.name])}
        parameters = [
            p.replace(annotation=hints[p.name], kind=p.KEYWORD_ONLY) for p in own if p.name not in groups
        ]
        parameters += [each for kind in groups.values() for each in _options(kind)]
        parameters += [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
            for key, (kind, default) in _SHARED.items()
        ]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        del run.__wrapped__
        app.command(name, epilog=table())(run)
        if (other := OTHER_VERBS.get(name or declared.__name__)) is not None:
            app.command(other, epilog=table(), hidden=True)(run)
        return declared

    return decorate


def _options(kind: Any) -> list[inspect.Parameter]:
    """The options that a dataclass's fields are."""
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default, annotation=hints[each.name]
        )
        for each in fields(kind)
    ]


def guarded(work: Callable[P, R], *, as_json: bool = False) -> Callable[P, R]:
    """Return work with every error that is not a bug turned into a message and an exit code."""

    @wraps(work)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with output.for_programs(as_json):
                return work(*args, **kwargs)
        except PalimpsestError as error:
            output.complain(error, as_json=as_json)
            raise typer.Exit(exit_code(error)) from None
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
            output.note(f"Error: {error.strerror}: {error.filename}")
            missing = isinstance(error, FileNotFoundError)
            raise typer.Exit(Exit.NOT_FOUND if missing else Exit.REFUSED) from None
        except (
            FieldValueError,
            UnicodeDecodeError,
        ) as error:  # an option out of range, a file that is not text
            output.note(f"Error: {error}")
            raise typer.Exit(Exit.USAGE) from None
        except BrokenPipeError:
            # `palimpsest generate | head`: the reader has enough. Nothing more may be written, even at exit.
            sys.stdout = open("/dev/null", "w")  # noqa: SIM115
            raise typer.Exit(Exit.OK) from None
        except OSError as error:
            if not is_full(error):
                raise
            output.note(
                f"Error: {error.strerror}. Free space on the disk that this writes to, then try again."
            )
            raise typer.Exit(Exit.REFUSED) from None
        except KeyboardInterrupt:
            output.note("Interrupted.")
            raise typer.Exit(Exit.INTERRUPTED) from None

    return run
