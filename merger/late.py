"""torch, loaded when it is first used: `from merger.late import Tensor, torch`.

Loading it takes the better part of a second, and much is done without it: plans are made from
headers, and a weighted sum goes from file to file through a compiled loop. `Tensor` stands in
annotations alone, where nobody asks what it is.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:

    class Tensor:
        """What annotations name."""

    class _Late:
        def __getattr__(self, name: str) -> Any:
            import torch

            found = getattr(torch, name)
            setattr(self, name, found)  # the next time without this call
            return found

    torch = _Late()

__all__ = ["Tensor", "torch"]
