"""The command: every file of this folder adds its commands, in the order below, others last."""

from importlib import import_module
from pkgutil import iter_modules

from merger.cli.app import app, main

__all__ = ["app", "main"]

_ORDER = ("merge", "search", "evaluate", "look", "diff", "tasks", "train")

for _name in dict.fromkeys((*_ORDER, *(file.name for file in iter_modules(__path__)))):
    if _name != "__main__":
        import_module(f"{__name__}.{_name}")
