"""Merge fine-tuned checkpoints of one base model, search the weights, explain the gain.

The names below are stable; each is loaded when it is first used, so that `import merger` costs
nothing. `merge`, `search`, `ablate` and `evaluate` do what the commands of these names do.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from merger.errors import MergerError as MergerError

if TYPE_CHECKING:
    from evals import task
    from merger import operators as operators
    from merger.api.evaluate import Evaluated as Evaluated
    from merger.api.evaluate import evaluate as evaluate
    from merger.api.merge import Merged as Merged
    from merger.api.merge import explain as explain
    from merger.api.merge import merge as merge
    from merger.api.search import Found as Found
    from merger.api.search import ablate as ablate
    from merger.api.search import search as search
    from merger.checkpoint import Checkpoint as Checkpoint
    from merger.checkpoint import open_checkpoint as open_checkpoint
    from merger.experts import resolve as resolve
    from merger.plan import Plan as Plan
    from merger.resident import Resident as Resident
    from merger.spec import MergeSpec as MergeSpec

    tasks = task

_PLACES = {
    "merger.api.merge": ("merge", "explain", "Merged"),
    "merger.api.search": ("search", "ablate", "Found"),
    "merger.api.evaluate": ("evaluate", "Evaluated"),
    "merger.checkpoint": ("Checkpoint", "open_checkpoint"),
    "merger.experts": ("resolve",),
    "merger.plan": ("Plan",),
    "merger.resident": ("Resident",),
    "merger.spec": ("MergeSpec",),
}
_NAMES = {name: place for place, names in _PLACES.items() for name in names}

__all__ = sorted(["MergerError", "operators", "tasks", *_NAMES])


def __getattr__(name: str) -> Any:
    """Load a name when it is first used."""
    if name == "operators":
        return import_module("merger.operators")
    if name == "tasks":
        import_module("evals.tasks")  # its files fill the table
        return import_module("evals.task")
    if name not in _NAMES:
        raise AttributeError(f"module 'merger' has no attribute {name!r}")
    return getattr(import_module(_NAMES[name]), name)


def __dir__() -> list[str]:
    return __all__
