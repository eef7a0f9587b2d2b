"""The typer application and the error border: a user's mistake is two lines and exit 2.

Each file of this folder adds its commands to `app` and imports what it needs inside the command
bodies, so that `merger --help` loads neither torch nor any model library.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from merger.errors import MergerError

app = typer.Typer(
    name="merger",
    help="Merge fine-tuned checkpoints of one base model, search the weights, explain the gain.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(show: bool) -> None:
    if show:
        from importlib.metadata import version

        typer.echo(f"merger {version('merger')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Hold the options of `merger` itself."""


def main() -> None:
    """Run the command; exit 0 done, 1 a bug (traceback), 2 the user can mend it, 130 paused."""
    try:
        app()
    except MergerError as mistake:
        from merger.cli.console import fail

        fail(mistake)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
