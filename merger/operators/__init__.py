"""Operators: pure functions from several tensors to one; every file of this folder is loaded."""

from importlib import import_module
from pkgutil import iter_modules

from merger.operators.base import OPERATORS, Knob, Operator
from merger.operators.survey import Block, Pick, Place, Size, run_survey

__all__ = ["OPERATORS", "Block", "Knob", "Operator", "Pick", "Place", "Size", "run_survey"]

for _file in iter_modules(__path__):
    import_module(f"{__name__}.{_file.name}")
