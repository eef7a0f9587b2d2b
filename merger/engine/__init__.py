"""Walk a plan block by block and hand every result to a sink, within a memory budget."""

from merger.engine.budget import Budget
from merger.engine.folder import Opened, merge_to_folder, opened
from merger.engine.run import DictSink, Sink, discard, run_plan

__all__ = [
    "Budget",
    "DictSink",
    "Opened",
    "Sink",
    "discard",
    "merge_to_folder",
    "opened",
    "run_plan",
]
