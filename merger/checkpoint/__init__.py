"""Checkpoints on disk: read by rows, written once, checked before a byte is touched.

This is the public door of the room; it knows the disk format and nothing of merging.
"""

from merger.checkpoint.adapter import open_checkpoint, open_models
from merger.checkpoint.dtypes import ITEMSIZE, dtype_code, dtype_name, torch_dtype
from merger.checkpoint.fingerprint import fingerprint_of, tensor_digest
from merger.checkpoint.header import TensorInfo
from merger.checkpoint.reader import Checkpoint
from merger.checkpoint.writer import Writer

__all__ = [
    "ITEMSIZE",
    "Checkpoint",
    "TensorInfo",
    "Writer",
    "dtype_code",
    "dtype_name",
    "fingerprint_of",
    "open_checkpoint",
    "open_models",
    "tensor_digest",
    "torch_dtype",
]
