"""The tasks: one file for each kind; every file here is loaded, so adding a file adds a task."""

from importlib import import_module
from pkgutil import iter_modules

for _file in sorted(f.name for f in iter_modules(__path__)):
    import_module(f"{__name__}.{_file}")
