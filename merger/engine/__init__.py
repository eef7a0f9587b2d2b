"""Walk a plan block by block and hand every result to a sink, within a memory budget."""

from merger.engine.budget import Budget
from merger.engine.folder import Merged, merge_to_folder
from merger.engine.models import Opened, opened
from merger.engine.run import run_plan
from merger.engine.sinks import DictSink, DiscardSink, Sink, WriterSink

__all__ = [
    "Budget",
    "DictSink",
    "DiscardSink",
    "Merged",
    "Opened",
    "Sink",
    "WriterSink",
    "merge_to_folder",
    "opened",
    "run_plan",
]
