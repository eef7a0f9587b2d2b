"""What to merge and how, as data: mergekit's YAML, read strictly and written back."""

from merger.spec.model import ExpertSpec, MergeSpec, PartSpec
from merger.spec.parse import load_spec, merge_spec, spec_from_mapping
from merger.spec.setting import Rule, Setting

__all__ = [
    "ExpertSpec",
    "MergeSpec",
    "PartSpec",
    "Rule",
    "Setting",
    "load_spec",
    "merge_spec",
    "spec_from_mapping",
]
