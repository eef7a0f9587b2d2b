"""The number formats of safetensors files: their codes, their sizes, their torch counterparts.

The codes are those of the file header ("BF16", "I64"). Formats that a file may legally hold but
that we do not read (fp8, fp4, complex) are listed too, so that they can be refused by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_FORMATS = {  # code: name in torch, bytes of an entry
    "F64": ("float64", 8), "F32": ("float32", 4), "F16": ("float16", 2), "BF16": ("bfloat16", 2),
    "I64": ("int64", 8), "I32": ("int32", 4), "I16": ("int16", 2), "I8": ("int8", 1),
    "U64": ("uint64", 8), "U32": ("uint32", 4), "U16": ("uint16", 2), "U8": ("uint8", 1),
    "BOOL": ("bool", 1),
}  # fmt: skip
ITEMSIZE = {code: size for code, (_, size) in _FORMATS.items()}
_CODES = {name: code for code, (name, _) in _FORMATS.items()}
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
UNREAD = {"F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F6_E2M3", "F6_E3M2"}
UNREAD |= {"F4", "F4_E2M1", "C64"}


def torch_dtype(code: str) -> torch.dtype:
    """Return the torch dtype of a header code ("BF16" -> torch.bfloat16)."""
    import torch

    dtype: torch.dtype = getattr(torch, _FORMATS[code][0])
    return dtype


def bytes_of(tensor: Tensor) -> memoryview:
    """Return the bytes of a contiguous CPU tensor, shared with it, in row-major order."""
    import torch

    array: Any = tensor.view(-1).view(torch.uint8).numpy()
    return memoryview(array)


def dtype_name(code: str) -> str:
    """Return the name that config files use ("BF16" -> "bfloat16")."""
    return _FORMATS[code][0]


def dtype_code(dtype: torch.dtype | str) -> str:
    """Return the header code of a torch dtype or of its name; a KeyError for any other."""
    return _CODES[str(dtype).removeprefix("torch.")]
