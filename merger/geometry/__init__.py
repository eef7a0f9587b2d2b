"""The geometry of task vectors: how far each expert went from its base, and how they meet."""

from merger.geometry.lineage import Verdict, lineage, short
from merger.geometry.streamed import Geometry, measure
from merger.geometry.sums import Sums

__all__ = ["Geometry", "Sums", "Verdict", "lineage", "measure", "short"]
