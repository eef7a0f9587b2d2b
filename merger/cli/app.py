"""The typer application and the error border: a user's mistake is two lines and exit 2.

Each file of this folder adds its commands to `app` and imports what it needs inside the command
bodies, so that `merger --help` loads neither torch nor any model library. The border takes our own
errors, what typer finds wrong with the words of a command, and what the system refuses (a full
disk, a folder that may not be read); all else is a bug of ours and keeps its traceback.
"""

import atexit
import errno
import gc
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from merger.errors import MergerError, UsageError, interrupted

app = typer.Typer(
    name="merger",
    help="Merge fine-tuned checkpoints of one base model, search the weights, explain the gain.",
    epilog="A model is a folder, an alias (merger experts) or a Hub id; --help shows examples.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# Of whichever click typer carries: newer ones hold a copy of their own.
_Misused: type[typer.BadParameter] = typer.BadParameter.__mro__[1]

_REMEDIES = {
    "Free some space; what was finished is kept.": (errno.ENOSPC, errno.EDQUOT),
    "The limit of a file's size is reached (ulimit -f); raise it.": (errno.EFBIG,),
    "Ask for the right, or name another place.": (errno.EACCES, errno.EPERM),
    "Name a place that can be written.": (errno.EROFS,),
    "Check the path.": (errno.ENOENT, errno.ENOTDIR),
    "Name a file.": (errno.EISDIR,),
    "Name another place.": (errno.EEXIST,),
    "Name a shorter path.": (errno.ENAMETOOLONG,),
    "Its links lead in a circle; name the folder itself.": (errno.ELOOP,),
}
_SYSTEM = {number: remedy for remedy, numbers in _REMEDIES.items() for number in numbers}

# By name, for sqlalchemy and optuna are not loaded here.
_DATABASE = (
    *(f"sqlalchemy.exc.{kind}Error" for kind in ("Operational", "Database", "Interface")),
    "optuna.exceptions.StorageInternalError",
)
_GOES_ON = (
    "See to its server, file and disk; what was committed is kept, and the same command goes on."
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


def main(words: Sequence[str] | None = None) -> None:
    """Run the command; exit 0 done, 1 a bug (traceback), 2 the user can mend it, 130 paused."""
    words = sys.argv[1:] if words is None else words
    # What still lives goes with the process; Python would search all of it for garbage first.
    atexit.register(gc.freeze)
    try:
        _refuse_empty(words)
        sys.exit(app(words, prog_name="merger", standalone_mode=False) or 0)
    except MergerError as mistake:
        _fail(mistake)
    except _Misused as error:
        _fail(_misused(error, words))
    except BrokenPipeError:  # `merger operators | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno not in _SYSTEM:
            raise
        place = error.filename2 or error.filename or "the disk"
        _fail(MergerError(f"{place}: {error.strerror}", _SYSTEM[error.errno]))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if interrupted(error):  # typer makes an Abort of it; of the end of a file, too
            sys.exit(130)
        kind = f"{type(error).__module__}.{type(error).__name__}"
        if kind not in _DATABASE:
            raise
        _fail(MergerError(f"the database gave up: {str(error).splitlines()[0]}", _GOES_ON))


def _refuse_empty(words: Sequence[str]) -> None:
    if "" in words:
        before = ("merger", *words)[words.index("")]
        remedy = "Give a value or leave it out; a variable of the shell that is not set is empty."
        raise UsageError(f"an empty word stands after {before}", remedy)


def _fail(mistake: MergerError) -> None:
    from merger.cli.console import fail

    fail(mistake)
    sys.exit(2)


def _misused(error: typer.BadParameter, words: Sequence[str]) -> UsageError:
    """Return what typer finds wrong as one of our errors, with the value it does not tell."""
    context = getattr(error, "ctx", None)
    told = error.format_message()
    if not told:  # a command without words: help is what it asks for
        sys.exit(2)
    names = [n for n in getattr(getattr(error, "param", None), "opts", []) if n in words[:-1]]
    value = f" (given {words[words.index(names[0]) + 1]!r})" if names else ""
    path = context.command_path if context else f"merger {words[0]}"
    return UsageError(f"{told.removesuffix('.')}{value}", f"{path} --help shows what it takes.")


@contextmanager
def pausing(
    resume: str, kept: str = "every score made so far", *, made: Path | None = None
) -> Iterator[None]:
    """Run work that Ctrl-C (or SIGTERM, as batch systems send it) pauses; `resume` continues it.

    Where `made` is not there yet there is nothing to continue.
    """
    from merger.cli.console import say

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except BaseException as error:
        if not interrupted(error):
            raise
        begun = made is None or made.exists()
        say(f"paused; {kept} is kept. Go on with: {resume}" if begun else "stopped; nothing begun")
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
