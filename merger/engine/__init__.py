"""Walk a plan block by block and hand every result to a sink, within a memory budget."""

from merger.engine.budget import Budget
from merger.engine.folder import Opened, merge_to_folder, opened
from merger.engine.run import DictSink, DiscardSink, Sink, WriterSink, run_plan

__all__ = [
    "Budget",
    "DictSink",
    "DiscardSink",
    "Opened",
    "Sink",
    "WriterSink",
    "merge_to_folder",
    "opened",
    "run_plan",
]
