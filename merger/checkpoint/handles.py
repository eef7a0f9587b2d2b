"""Open files, as many as the machine allows: a model of a thousand shards keeps a thousand open."""

from __future__ import annotations


def allow_many_files() -> None:
    """Raise this process's soft limit on open files to the hard one."""
    try:
        import resource
    except ImportError:  # not a POSIX system
        return
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
