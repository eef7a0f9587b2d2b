"""The place a model is written to: asked for before the work, taken in one move after it.

Everything is written to OUT.partial beside OUT; at the end the folder is renamed. Where OUT exists
and may be replaced, it is first moved to OUT.replaced, and back if the second move fails. A run
killed between the two moves is found by the next one, which moves the older model back before it
goes on or begins anew.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from merger.errors import OutputError

_OURS = ("additional_chat_templates",)  # the one folder that a model folder may hold


def check_place(out: Path, *, force: bool, resume: bool) -> list[str]:
    """Refuse an OUT that exists, or is no model, or was left half written, before any work.

    With `force` an existing model folder may be replaced, but never a folder of other things.
    Returns what should be said.
    """
    partial, aside = partial_of(out), _aside_of(out)
    notes = []
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise OutputError(f"{out} is no folder", "Choose another name.")
    if not out.exists() and partial.is_dir() and aside.is_dir() and _replaceable(aside):
        aside.rename(out)
        notes = [f"{aside} is {out} again: a run was killed while it replaced that model"]
    if out.exists() and any(out.iterdir()):
        if not force:
            raise OutputError(f"{out} exists", "Choose another name, or replace it with --force.")
        if not _replaceable(out):
            law = f"{out} holds other things than a model, and --force replaces only a model folder"
            raise OutputError(law, "Choose another name, or empty the folder yourself.")
        if aside.exists():
            raise OutputError(f"{aside} is in the way", "Remove it, or choose another name.")
    if partial.is_symlink() or (partial.exists() and not partial.is_dir()):
        raise OutputError(f"{partial} is in the way", "Remove it, or choose another name.")
    if partial.exists() and not (force or resume):
        remedy = "Continue with --resume, or start anew with --force."
        raise OutputError(f"{partial} is left from an unfinished run", remedy)
    return notes


def check_new(folder: Path) -> None:
    """Refuse a folder for a new run that holds anything: what it holds might be overwritten."""
    if folder.is_dir() and any(not file.name.startswith(".") for file in folder.iterdir()):
        law = f"{folder} holds other things than a run"
        raise OutputError(law, "Name a new folder, or an empty one.")


def check_apart(out: Path, sources: Iterable[Path]) -> None:
    """Refuse an OUT that is one of the folders it is made of: --force must not eat an input."""
    for source in sources:
        if out.exists() and source.exists() and out.samefile(source):
            raise OutputError(f"{out} is an input of what it would be", "Choose another name.")


def partial_of(out: Path) -> Path:
    """Return the folder that OUT is written in until it is whole."""
    if not out.name or "\0" in str(out):
        raise OutputError(f"{str(out)!r} is no place for a model", "Name a new folder.")
    return out.with_name(out.name + ".partial")


def _aside_of(out: Path) -> Path:
    return out.with_name(out.name + ".replaced")


def hold(partial: Path) -> int:
    """Keep every other process from writing a folder; return the handle whose closing ends that.

    The kernel lets go when the process dies, however it does. Raises an OutputError where another
    process holds the folder.
    """
    handle = os.open(partial, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        law = f"{partial} is being written by another process"
        raise OutputError(law, "Wait until it is done, or choose another OUT.") from error
    except OSError:
        pass  # some network file systems know no locks
    return handle


def take_place(partial: Path, out: Path, erase: Callable[[Path], None] = lambda out: None) -> None:
    """Give the finished folder its name, in place of an older model if there is one.

    `erase` removes from it what only an unfinished one needs, before the older model goes.
    """
    if out.exists() and not any(out.iterdir()):
        out.rmdir()
    aside = _aside_of(out) if out.exists() else None
    if aside:
        out.rename(aside)
    try:
        partial.rename(out)
    except OSError:
        if aside:
            aside.rename(out)
        raise
    sync(out.parent)
    erase(out)
    if aside:
        shutil.rmtree(aside)


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        # Some network file systems cannot sync a folder; the files themselves were.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(fd)


@contextmanager
def said(out: Path) -> Iterator[None]:
    """Turn what the file system answers (full, read-only, too large) into an OutputError."""
    try:
        yield
    except OSError as error:
        law = f"{out} cannot be written: {error.strerror or error}"
        remedy = "Check the place."
        if error.errno == errno.EFBIG:
            remedy = "Raise the limit of a file's size (ulimit -f), or give a smaller --shard-size."
        elif error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "Free some space, or choose another disk."
            with suppress(OSError):
                free = shutil.disk_usage(next(p for p in out.parents if p.exists())).free
                law += f" ({free:,} bytes free)"
        raise OutputError(law, remedy) from error


def _replaceable(out: Path) -> bool:
    # A folder inside is no part of a model: --force on a home or project folder must not be obeyed.
    entries = list(out.iterdir())
    weights = any(e.name.endswith(".safetensors") for e in entries)
    return weights and not any(e.is_dir() and e.name not in _OURS for e in entries)
