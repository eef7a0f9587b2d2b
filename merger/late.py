"""torch and numpy, loaded when they are first used: `from merger.late import Tensor, np, torch`.

Loading torch takes the better part of a second and numpy a tenth of one, and much is done without
them: plans are made from headers, and a weighted sum goes from file to file through a compiled
loop. `Tensor` stands in annotations alone, where nobody asks what it is; an array is in quotes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor
else:

    class Tensor:
        """What annotations name."""

    class _Late:
        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, name: str) -> Any:
            found = getattr(import_module(self._name), name)
            setattr(self, name, found)  # the next time without this call
            return found

    np, torch = _Late("numpy"), _Late("torch")

__all__ = ["Tensor", "np", "torch"]
