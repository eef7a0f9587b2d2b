"""The command: one file per command; every file of this folder is loaded, in the order below."""

from importlib import import_module
from pkgutil import iter_modules

from merger.cli.app import app, main

__all__ = ["app", "main"]

_ORDER = [
    "merge",
    "explain",
    "search",
    "worker",
    "ablate",
    "evaluate",
    "compare",
    "inspect",
    "diff",
    "extract_lora",
]
_ORDER += ["experts", "operators", "tasks", "run", "training"]

_files = {f.name for f in iter_modules(__path__)} - {"app", "console", "__main__"}
for _name in sorted(_files, key=lambda n: (_ORDER.index(n) if n in _ORDER else len(_ORDER), n)):
    import_module(f"{__name__}.{_name}")
