"""Walk a plan block by block and hand every result to a sink, within a memory budget."""

from merger.engine.budget import Budget
from merger.engine.run import run_plan
from merger.engine.sinks import DictSink, Sink, WriterSink

__all__ = [
    "Budget",
    "DictSink",
    "Sink",
    "WriterSink",
    "run_plan",
]
