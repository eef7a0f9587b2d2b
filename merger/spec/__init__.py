"""What to merge and how, as data: mergekit's YAML, read strictly."""

from merger.spec.model import ExpertSpec, MergeSpec, PartSpec
from merger.spec.parse import load_spec, merge_spec, spec_from_mapping

__all__ = ["ExpertSpec", "MergeSpec", "PartSpec", "load_spec", "merge_spec", "spec_from_mapping"]
