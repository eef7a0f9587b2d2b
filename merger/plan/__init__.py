"""What will be merged, copied and dropped, tensor by tensor; made from headers alone."""

from merger.plan.make import make_plan
from merger.plan.model import Plan, Source, Step
from merger.plan.text import plan_document

__all__ = ["Plan", "Source", "Step", "make_plan", "plan_document"]
