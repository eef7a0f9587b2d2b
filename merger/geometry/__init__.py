"""The geometry of task vectors: how far each expert went from its base, and how they meet."""

from merger.geometry.lineage import Verdict, labels, lineage, short
from merger.geometry.streamed import Geometry, measure
from merger.geometry.sums import Sums

__all__ = ["Geometry", "Sums", "Verdict", "labels", "lineage", "measure", "short"]
